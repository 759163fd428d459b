// Log-mel filterbanks of a stream, bit for bit those of kaldi-native-fbank's wheel (sottovoce.frontend.fbank).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "frontend/resample.hpp"
#include "frontend/settings.hpp"

namespace sottovoce {

// Throws Error where a value is NaN, infinite or beyond 1e10, far beyond any sound or feature.
void check_values(std::span<const float> values, const char* name);

// Any chunking gives the same frames; audio of another rate is resampled.
class StreamingFbank {
 public:
  explicit StreamingFbank(const FeatureSettings& settings);
  ~StreamingFbank();
  StreamingFbank(StreamingFbank&&) noexcept;
  StreamingFbank& operator=(StreamingFbank&&) noexcept;

  // Samples in [-1, 1]. Throws Error if the rate changes within the stream, the stream is finished, or samples are not
  // finite.
  void accept_waveform(int sample_rate, std::span<const float> samples);

  // The frames at the end become ready (edges are reflected).
  void input_finished();

  std::int64_t frames_ready() const { return static_cast<std::int64_t>(frames_.size()) / settings_.bins; }

  // The next `count` of the frames that are ready, (count, bins); they are forgotten here.
  std::vector<float> take(std::int64_t count);

 private:
  struct Computer;

  void feed(std::span<const float> samples);
  void compute(bool flush);

  FeatureSettings settings_;
  std::unique_ptr<Computer> computer_;
  std::optional<LinearResampler> resampler_;
  int rate_ = 0;  // of the input; 0: none came yet
  bool finished_ = false;
  std::vector<float> wave_;  // samples from wave_from_ on
  std::int64_t wave_from_ = 0;
  std::int32_t computed_ = 0;  // frames since the stream began
  std::vector<float> frames_;  // computed and not taken
};

}  // namespace sottovoce
