#include "decoding/words.hpp"

#include <cmath>
#include <optional>
#include <sstream>

#include "decoding/endpoint.hpp"

namespace sottovoce {
namespace {

// The words of the tokens from `begin` to `end`: one as a rule, none of spaces alone, several where a piece holds a
// space inside.
void append_words(const Hypothesis& hypothesis, std::size_t begin, std::size_t end, const Tokenizer& tokenizer,
                  double frame_seconds, std::vector<Word>& words) {
  std::optional<std::int64_t> first;
  std::int64_t last = 0;
  double log_probs = 0;
  for (std::size_t i = begin; i < end; ++i) {
    log_probs += static_cast<double>(hypothesis.log_probs[i]);
    if (tokenizer.piece(hypothesis.tokens[i]) == kSpace) continue;
    if (!first) first = hypothesis.times[i];
    last = hypothesis.times[i];
  }
  if (!first) return;
  const double confidence = round_to_micros(std::exp(log_probs / static_cast<double>(end - begin)));
  std::istringstream texts(tokenizer.decode({hypothesis.tokens.data() + begin, end - begin}));
  for (std::string text; std::getline(texts, text, ' ');) {
    if (text.empty()) continue;
    words.push_back(
        {text, frames_to_seconds(*first, frame_seconds), frames_to_seconds(last + 1, frame_seconds), confidence});
  }
}

}  // namespace

std::vector<Word> words_of(const Hypothesis& hypothesis, const Tokenizer& tokenizer, double frame_seconds) {
  std::vector<Word> words;
  const std::size_t count = hypothesis.tokens.size();
  for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
    for (++end; end < count && !tokenizer.piece(hypothesis.tokens[end]).starts_with(kSpace);) ++end;
    append_words(hypothesis, begin, end, tokenizer, frame_seconds, words);
  }
  return words;
}

}  // namespace sottovoce
