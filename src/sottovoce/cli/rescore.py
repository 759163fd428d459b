"""``sottovoce rescore``: language models over lattices and n-best lists, on packed files without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.outputs import check_folder, check_kept, json_text
from sottovoce.cli.rescore_options import EM, numbers_by_name, read_models, read_references, read_shares
from sottovoce.cli.rescore_outputs import Layout, check_outputs, write_lattices, write_lists, write_texts
from sottovoce.cli.second_pass import HISTORIES, NBEST, ORDER, Limits, Reading, SecondPass, sentences, tune_mixture
from sottovoce.decoding.conversations import read_conversations
from sottovoce.decoding.lattices import read_symbols
from sottovoce.decoding.mixture import read_mixture, write_mixture
from sottovoce.decoding.text import NORMALIZATIONS, normalization
from sottovoce.errors import ConfigError
from sottovoce.runtime.rules import Arithmetic


class Method(StrEnum):
    """How lattices are rescored."""

    nbest = "nbest"
    lattice = "lattice"


def rescore(
    first_pass: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", help="n-best lists or lattices: a file, or a folder of files of one form."),
    ] = None,
    lm: Annotated[
        list[str] | None,
        typer.Option(help="A model file or run folder, n-grams too; NAME=PATH names its score. Several may be given."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write hypotheses: .trn, .ctm (of lattices), .jsonl, else tab-separated.")
    ] = None,
    nbest_out: Annotated[
        Path | None, typer.Option(help="Write rescored n-best lists: .jsonl with every score, else a --layout folder.")
    ] = None,
    lattices_out: Annotated[
        Path | None, typer.Option(help="Write rescored lattices: a folder of SLF files, or a Kaldi archive.")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(help="What was said; else the references in the n-best lists.")
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER: the factor of a score.")] = None,
    word_penalty: Annotated[float | None, typer.Option(help="Nats added for each word.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A file of weights, as --save-weights writes it.")] = None,
    interpolate: Annotated[
        str | None,
        typer.Option(help="Mix the models linearly: equal, em (by --tune's references), or NAME=SHARE,NAME=SHARE."),
    ] = None,
    tune: Annotated[
        Path | None, typer.Option(help="A development input: find the weights with the fewest word errors on it.")
    ] = None,
    fix: Annotated[list[str] | None, typer.Option(help="A score whose weight --tune leaves; else the first.")] = None,
    save_weights: Annotated[Path | None, typer.Option(help="Write the weights that were found to this file.")] = None,
    method: Annotated[Method, typer.Option(help="Lattices: exact n-best lists, or on the lattice.")] = Method.nbest,
    nbest: Annotated[
        int | None, typer.Option(min=1, help=f"Entries of a list; of a lattice {NBEST} if not given.")
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"On the lattice: histories with the same last ORDER - 1 words are one; else {ORDER}."
        ),
    ] = None,
    beam: Annotated[
        float | None, typer.Option(min=0, help="On the lattice: nats behind the best history at a node; else any.")
    ] = None,
    max_histories: Annotated[
        int | None, typer.Option(min=1, help=f"On the lattice: histories kept at a node; else {HISTORIES}.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Models remember the utterances before in the conversation.")
    ] = False,
    conversations: Annotated[
        Path | None, typer.Option(help="Lines of utterance and conversation, in order; else its recording or name.")
    ] = None,
    words: Annotated[Path | None, typer.Option(help="Kaldi's words.txt: lattices have numbers.")] = None,
    acoustic_scale: Annotated[
        float | None,
        typer.Option(
            help="Acoustic weight of lattices by which lists are made, in the place of their own; Kaldi's have none: 1."
        ),
    ] = None,
    normalize: Annotated[
        str, typer.Option(help=f"Of all texts, before models read them: {', '.join(NORMALIZATIONS)}.")
    ] = "plain",
    layout: Annotated[Layout, typer.Option(help="Of a folder of n-best lists.")] = Layout.kaldi,
    arithmetic: Annotated[Arithmetic, typer.Option(help="int8, float (weight-only figures) or accelerator.")] = "int8",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the compiled kernels.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as one JSON object.")] = False,
) -> None:
    """Rescore n-best lists or lattices with language models; print the word errors of both passes.

    INPUT may be n-best lists (JSON lines, as transcribe --json --nbest or this command writes them; a folder in Kaldi's
    or ESPnet's layout), HTK SLF lattices, or Kaldi's text lattices, plain or gzip. Scores are mixed log-linearly, each
    with a weight, or the models linearly (--interpolate) and then as one score, "interpolated". Without other weights
    the scores of the input count as it says, or 1, and each model 1. A model named as a score of the input replaces it.

    With --history, models go on from the best hypothesis of the utterances before (of --tune's: of their first pass). A
    conversation is the recording, what --conversations says, or the name up to its last hyphen or else underscore.

    An utterance that cannot be used is one line on the error stream and counted; the others go on.

    Examples:

        sottovoce rescore test.jsonl --lm lstm=runs/lm --tune dev.jsonl --references ref.trn --out test.trn

        sottovoce rescore lattices/ --lm lstm=lm-2bit.safetensors --lm 4gram.arpa.gz --interpolate equal --weight lm=0
        --weight interpolated=12 --out best.ctm

        sottovoce rescore lat.1.gz --words words.txt --acoustic-scale 0.1 --method lattice --lm runs/lm --weights w.json
        --lattices-out rescored.gz
    """
    outputs = (out, nbest_out, lattices_out)
    check_folder(*outputs, save_weights)
    _check(first_pass, outputs, lm, weights, interpolate, tune, fix, save_weights, history, conversations)
    inputs = (first_pass, tune, weights, conversations, words, *(references or ()))
    check_kept([path for path in (*outputs, save_weights) if path], [path for path in inputs if path])
    _check_method(method, nbest=nbest, order=order, beam=beam, max_histories=max_histories)
    normalization(normalize)
    reading = Reading(
        read_symbols(words) if words else None,
        acoustic_scale,
        normalize,
        nbest,
        history,
        read_conversations(conversations) if conversations else None,
        read_references(references or (), normalize),
    )
    factors = numbers_by_name("--weight", weight or ())
    models = read_models(lm or (), arithmetic, threads)
    mixture = read_mixture(weights) if weights else None
    shares = read_shares(interpolate, models) if interpolate else dict(mixture.shares) if mixture else {}
    passes = SecondPass(reading, models, shares, mixture, factors, word_penalty)
    report: dict[str, Any] = {}
    if tune is not None:
        passes, report["tuned"] = tune_mixture(passes, tune, interpolate == EM, fix or ())
        if save_weights is not None and passes.mixture is not None:
            write_mixture(save_weights, passes.mixture, report["tuned"])
    if first_pass is not None:
        limits = (
            Limits(order or ORDER, math.inf if beam is None else beam, max_histories or HISTORIES)
            if method is Method.lattice
            else None
        )
        found = reading.read(first_pass)
        if limits is not None and found.form == "n-best":
            raise ConfigError(f"--method lattice: expected lattices, found n-best lists in {first_pass}")
        check_outputs(found, limits is not None, *outputs)
        reading.check_references(found, wanted=references is not None and tune is None)
        rescored, figures = passes.run(first_pass, found, limits)
        if out is not None:
            write_texts(out, rescored)
        if nbest_out is not None:
            write_lists(nbest_out, rescored, layout)
        if lattices_out is not None:
            write_lattices(lattices_out, rescored, found.form, reading.symbols)
        report |= figures
        if tune is not None:
            report["tuned_on_input"] = tune.resolve() == first_pass.resolve()
    _show(json_text(report) if as_json else "\n".join(sentences(report)))


def _check(
    first_pass: Path | None,
    outputs: Sequence[Path | None],
    lm: list[str] | None,
    weights: Path | None,
    interpolate: str | None,
    tune: Path | None,
    fix: list[str] | None,
    save_weights: Path | None,
    history: bool,
    conversations: Path | None,
) -> None:
    if first_pass is None and (tune is None or save_weights is None or any(outputs)):
        raise ConfigError("expected an INPUT to rescore, or --tune with --save-weights and no other output")
    written = [path.resolve() for path in (*outputs, save_weights) if path is not None]
    twice = next((path for path in written if written.count(path) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice}: expected a path of its own for each output, found it twice")
    if not lm:
        raise ConfigError("--lm: expected at least one language model")
    if tune is not None and weights is not None:
        raise ConfigError("--tune finds weights: it does not go with --weights; --weight says where it begins")
    for name, value in (("--fix", fix), ("--save-weights", save_weights)):
        if value is not None and tune is None:
            raise ConfigError(f"{name} is for weights that are found: expected --tune beside it")
    if interpolate == EM and tune is None:
        raise ConfigError("--interpolate em finds shares on a development set: expected --tune beside it")
    if conversations is not None and not history:
        raise ConfigError("--conversations is for models that remember: expected --history beside it")


def _check_method(method: Method, nbest: int | None, **on_lattices: float | None) -> None:
    if method is Method.lattice and nbest is not None:
        raise ConfigError("--nbest is for lists: it does not go with --method lattice")
    given = next((name for name, value in on_lattices.items() if value is not None), None)
    if method is Method.nbest and given is not None:
        raise ConfigError(f"--{given.replace('_', '-')} is for rescoring on the lattice: expected --method lattice")


def _show(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
