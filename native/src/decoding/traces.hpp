// The tokens of hypotheses that share their beginnings: extending one costs the same whatever its length.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sottovoce {

// One token sequence. times: the encoder frame, counted from 0, at which each token was emitted; log_probs: the
// joiner's log-probability of each token there; score: that of the whole, nats.
struct Hypothesis {
  std::vector<std::int64_t> tokens, times;
  std::vector<float> log_probs;
  double score = 0;
};

inline constexpr std::int32_t kEmptyTrace = -1;

class Traces {
 public:
  // The trace that continues `parent` (kEmptyTrace: the beginning) with one token.
  std::int32_t extend(std::int32_t parent, std::int64_t token, std::int64_t time, float log_prob);

  Hypothesis follow(std::int32_t trace, double score) const;

  std::int64_t time_of(std::int32_t trace) const { return steps_[static_cast<std::size_t>(trace)].time; }

  // Forgets what no trace in `ends` leads to, if that is much, and changes `ends` accordingly.
  void keep(std::span<std::int32_t*> ends);

 private:
  struct Step {
    std::int32_t parent;
    std::int64_t token, time;
    float log_prob;
  };

  std::vector<Step> steps_;  // parents before their children
  std::size_t kept_ = 0;     // how many were left the last time
};

}  // namespace sottovoce
