#include "decoding/traces.hpp"

#include <algorithm>
#include <limits>

#include "error.hpp"

namespace sottovoce {
namespace {

constexpr std::size_t kLeast = 4096;  // fewer steps are not worth looking at

std::size_t index(std::int32_t trace) { return static_cast<std::size_t>(trace); }

}  // namespace

std::int32_t Traces::extend(std::int32_t parent, std::int64_t token, std::int64_t time, float log_prob) {
  if (steps_.size() >= index(std::numeric_limits<std::int32_t>::max())) throw Error("this stream is too long");
  steps_.push_back({parent, token, time, log_prob});
  return static_cast<std::int32_t>(steps_.size() - 1);
}

Hypothesis Traces::follow(std::int32_t trace, double score) const {
  Hypothesis found;
  found.score = score;
  for (; trace != kEmptyTrace; trace = steps_[index(trace)].parent) {
    const Step& step = steps_[index(trace)];
    found.tokens.push_back(step.token);
    found.times.push_back(step.time);
    found.log_probs.push_back(step.log_prob);
  }
  std::reverse(found.tokens.begin(), found.tokens.end());
  std::reverse(found.times.begin(), found.times.end());
  std::reverse(found.log_probs.begin(), found.log_probs.end());
  return found;
}

void Traces::keep(std::span<std::int32_t*> ends) {
  if (steps_.size() < std::max(kLeast, 2 * kept_)) return;
  std::vector<bool> used(steps_.size());
  for (const std::int32_t* end : ends) {
    for (std::int32_t at = *end; at != kEmptyTrace && !used[index(at)]; at = steps_[index(at)].parent) {
      used[index(at)] = true;
    }
  }
  std::vector<std::int32_t> moved(steps_.size(), kEmptyTrace);
  kept_ = 0;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (!used[i]) continue;
    Step step = steps_[i];
    if (step.parent != kEmptyTrace) step.parent = moved[index(step.parent)];
    moved[i] = static_cast<std::int32_t>(kept_);
    steps_[kept_++] = step;
  }
  steps_.resize(kept_);
  for (std::int32_t* end : ends) {
    if (*end != kEmptyTrace) *end = moved[index(*end)];
  }
}

}  // namespace sottovoce
