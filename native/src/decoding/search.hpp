// RNN-T searches, chunk by chunk, a batch of streams at a time (sottovoce.decoding.greedy and .beam).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decoding/endpoint.hpp"
#include "decoding/hotwords.hpp"
#include "decoding/traces.hpp"
#include "decoding/transducer.hpp"

namespace sottovoce {

enum class Method { greedy, beam };

// beam counts for Method::beam only; blank_penalty is subtracted from the blank's log-probability (nats).
struct SearchOptions {
  Method method = Method::greedy;
  int beam = 4;
  std::optional<float> blank_penalty;  // none: what the model's file says
  int max_symbols = 1;
};

// One hypothesis. A key is a 64-bit hash of its tokens, so that equal sequences are found without looking at them.
struct Candidate {
  double score;               // with the bonus of hotwords; -inf: absent
  std::uint64_t key, parent;  // the parent's key is that without the last token
  std::int64_t last;
  std::int32_t trace;
  std::int32_t context;  // state in the graph of hotwords
};

// What a search carries from chunk to chunk for one stream of B hypotheses.
struct SearchState {
  std::int64_t frames = 0;                       // encoder frames seen
  std::int64_t start = 0;                        // of them, those before the present segment
  std::shared_ptr<const ContextGraph> hotwords;  // none: NULL
  Traces traces;
  std::vector<Candidate> candidates;  // (B,) best first, credit for matches under way included
  std::vector<float> output;          // (B, joiner_units) predictor output after the last token
  std::vector<float> predictor;       // (B, predictor_floats)
};

// The next chunk of one stream: frames (count, joiner_units).
struct SearchChunk {
  SearchState* state;
  const float* frames;
  int count;
};

class Search {
 public:
  virtual ~Search() = default;

  // Throws Error where hotwords are given to a search that is no beam search.
  SearchState start(Transducer& model, std::span<const Phrase> hotwords = {}) const;

  // Streams share calls of the network; the result of each is as if it were alone.
  virtual void advance(Transducer& model, std::span<const SearchChunk> chunks) const = 0;

  // A new segment: nothing found yet, frames counted on, the predictor's history of the best hypothesis kept.
  void restart(SearchState& state) const;

  // How far the present segment is, by its best hypothesis.
  Segment segment(const SearchState& state) const;

  // What was found in the present segment, best first; never empty.
  std::vector<Hypothesis> results(const SearchState& state) const;

 protected:
  explicit Search(int width, bool takes_hotwords = false) : width_(width), takes_hotwords_(takes_hotwords) {}

  int width_;  // hypotheses of a stream
  bool takes_hotwords_;
};

// Throws Error for an option that cannot be used.
std::unique_ptr<Search> make_search(const SearchOptions& options);

}  // namespace sottovoce
