// Words from tokens: when each was said, and how sure the model is of it (sottovoce.runtime.words).
#pragma once

#include <string>
#include <vector>

#include "decoding/tokenizer.hpp"
#include "decoding/traces.hpp"

namespace sottovoce {

// start and end: seconds at which the encoder frame of the first token begins and that of the last one ends;
// confidence: the geometric mean of the tokens' probabilities, without blank penalty.
struct Word {
  std::string text;
  double start, end, confidence;
};

std::vector<Word> words_of(const Hypothesis& hypothesis, const Tokenizer& tokenizer, double frame_seconds);

}  // namespace sottovoce
