// Hotwords: phrases that a beam search favours, found by an Aho-Corasick automaton over token ids
// (sottovoce.decoding.hotwords).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace sottovoce {

// Token ids of one hotword, and the score of each of its tokens in nats.
struct Phrase {
  std::vector<std::int64_t> tokens;
  double score;
};

// A state is the longest beginning of a phrase that the tokens so far end in; 0 is none.
class ContextGraph {
 public:
  // Throws Error for ids outside 1 to vocabulary - 1, an empty phrase or a score that is not a positive number.
  ContextGraph(std::span<const Phrase> phrases, int vocabulary);

  // What is taken back if a match under way ends here.
  double credit(std::int32_t state) const { return nodes_[index(state)].credit; }

  // Adds to totals (vocabulary,) what each token gains in this state; the blank gains nothing.
  void add_bonuses(std::int32_t state, double* totals) const;

  // The state after a token that is no blank.
  std::int32_t step(std::int32_t state, std::int64_t token) const;

 private:
  struct Node {
    std::map<std::int64_t, std::int32_t> children;
    double score = 0;  // of its last token
    double worth = 0;  // of all its tokens
    double ended = 0;  // worth of the longest phrase that is a beginning of it
    double won = 0;    // worth of all phrases that end here
    double credit = 0;
    std::int32_t fail = 0;
    bool end = false;
    std::vector<std::pair<std::size_t, double>> gains;  // of tokens that lead elsewhere than from the root
  };

  static std::size_t index(std::int32_t state) { return static_cast<std::size_t>(state); }
  void insert(const Phrase& phrase, int vocabulary);
  void link();
  void find_gains(Node& node) const;

  std::vector<Node> nodes_;
  std::vector<double> root_gains_;  // (vocabulary,)
};

}  // namespace sottovoce
