"""An untrained recognizer of tones whose blanks compete with its tokens: every penalty changes what it hears."""

from dataclasses import replace
from pathlib import Path

import torch

from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.data.utterances import split_texts
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.models import Rnnt
from sottovoce.packed import RnntArchitecture
from sottovoce.schemes import pack_float


def blank_model(tones: Path, file: Path) -> Path:
    tokenizer = Tokenizer(train_tokenizer(split_texts(tones, "train"), kind="char", vocabulary=12))
    architecture = RnntArchitecture(
        features=80, vocabulary=tokenizer.vocabulary, encoder_units=12, embedding=6, predictor_units=8, joiner_units=10
    )
    torch.manual_seed(0)
    model = Rnnt(architecture)
    with torch.no_grad():
        model.joiner.output.bias[0] += 1.5
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(
        pack_float(model),
        architecture=architecture.to_dict(),
        input={"kind": "waveform", **FeatureSettings().to_dict()},
        tokenizer=tokenizer.model,
    ).save(file)
    return file
