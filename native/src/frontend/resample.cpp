#include "frontend/resample.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

#include "error.hpp"

namespace sottovoce {
namespace {

constexpr int kZeros = 6;
constexpr int kLowestRate = 1'000, kHighestRate = 768'000;
constexpr int kMostWeights = 1'000'000;

int checked_rate(int rate) {
  if (rate < kLowestRate || rate > kHighestRate) {
    throw Error("a sample rate must be an integer in [" + std::to_string(kLowestRate) + ", " +
                std::to_string(kHighestRate) + "] Hz, found " + std::to_string(rate));
  }
  return rate;
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// The order and the width of each operation are those of the definition.
float windowed_sinc(float offset, double cutoff) {
  constexpr double kPi = std::numbers::pi;
  const double t = static_cast<double>(offset);
  if (!(std::abs(t) < kZeros / (2.0 * cutoff))) return 0.0f;
  const auto window = static_cast<float>(0.5 * (1 + std::cos(2 * kPi * cutoff / kZeros * t)));
  const double sinc = t == 0 ? 2 * cutoff : std::sin(2 * kPi * cutoff * t) / (kPi * t);
  return static_cast<float>(sinc) * window;
}

}  // namespace

LinearResampler::LinearResampler(int from_rate, int to_rate)
    : same_(checked_rate(from_rate) == checked_rate(to_rate)),
      unit_in_(from_rate / std::gcd(from_rate, to_rate)),
      unit_out_(to_rate / std::gcd(from_rate, to_rate)) {
  if (!same_) make_filter(from_rate, to_rate);
}

void LinearResampler::make_filter(int from_rate, int to_rate) {
  const double from = from_rate, to = to_rate;
  const double cutoff = static_cast<double>(static_cast<float>(0.99 * 0.5 * std::min(from, to)));
  const double width = kZeros / (2.0 * cutoff);
  if (static_cast<double>(unit_out_) * (2 * width * from + 1) > kMostWeights) {
    throw Error("resampling from " + std::to_string(from_rate) + " to " + std::to_string(to_rate) +
                " Hz: expected a filter of at most " + std::to_string(kMostWeights) + " weights, found more");
  }
  for (std::int64_t phase = 0; phase < unit_out_; ++phase) {
    const double time = static_cast<double>(phase) / to;
    first_.push_back(static_cast<std::int64_t>(std::ceil((time - width) * from)));
    counts_.push_back(static_cast<std::int64_t>(std::floor((time + width) * from)) - first_.back() + 1);
  }
  taps_ = *std::max_element(counts_.begin(), counts_.end());
  weights_.resize(static_cast<std::size_t>(unit_out_ * taps_));
  for (std::int64_t phase = 0; phase < unit_out_; ++phase) {
    const double time = static_cast<double>(phase) / to;
    const auto at = static_cast<std::size_t>(phase);
    for (std::int64_t tap = 0; tap < counts_[at]; ++tap) {
      const auto offset = static_cast<float>(static_cast<double>(first_[at] + tap) / from - time);
      weights_[static_cast<std::size_t>(phase * taps_ + tap)] =
          windowed_sinc(offset, cutoff) / static_cast<float>(from_rate);
    }
  }
}

std::vector<float> LinearResampler::accept(std::span<const float> samples, bool last) {
  if (same_) return {samples.begin(), samples.end()};
  kept_.insert(kept_.end(), samples.begin(), samples.end());
  const std::int64_t total = kept_from_ + static_cast<std::int64_t>(kept_.size());
  const std::int64_t stop = last ? -floor_divide(-total * unit_out_, unit_in_) : safe_outputs(total);
  std::vector<float> output;
  for (; made_ < stop; ++made_) output.push_back(output_at(made_));
  if (last) {
    kept_.clear();
    kept_from_ = made_ = 0;
    return output;
  }
  // The first tap never moves back from one output to the next: what lies before the next one is done with.
  const std::int64_t needed = made_ / unit_out_ * unit_in_ + first_[static_cast<std::size_t>(made_ % unit_out_)];
  const std::int64_t drop = std::clamp<std::int64_t>(needed - kept_from_, 0, static_cast<std::int64_t>(kept_.size()));
  kept_.erase(kept_.begin(), kept_.begin() + drop);
  kept_from_ += drop;
  return output;
}

// How many outputs see input samples before `total` only (last taps do not move back with time).
std::int64_t LinearResampler::safe_outputs(std::int64_t total) const {
  std::int64_t outputs = 0;
  for (std::size_t phase = 0; phase < first_.size(); ++phase) {
    const std::int64_t end = first_[phase] + counts_[phase];
    outputs += std::max<std::int64_t>(floor_divide(total - end, unit_in_) + 1, 0);
  }
  return outputs;
}

// One multiplication and one addition a tap, always in this order; samples outside the stream are zeros, and to add
// zero to a sum that began at +0 changes nothing.
float LinearResampler::output_at(std::int64_t index) const {
  const std::int64_t phase = index % unit_out_;
  const std::int64_t from = first_[static_cast<std::size_t>(phase)] + index / unit_out_ * unit_in_ - kept_from_;
  const std::int64_t start = std::max<std::int64_t>(0, -from);
  const std::int64_t stop =
      std::min(counts_[static_cast<std::size_t>(phase)], static_cast<std::int64_t>(kept_.size()) - from);
  float sum = 0;
  for (std::int64_t tap = start; tap < stop; ++tap) {
    sum += weights_[static_cast<std::size_t>(phase * taps_ + tap)] * kept_[static_cast<std::size_t>(from + tap)];
  }
  return sum;
}

}  // namespace sottovoce
