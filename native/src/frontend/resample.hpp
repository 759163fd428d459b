// Resampling by Kaldi's windowed sinc, bit for bit sottovoce.frontend.resample.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sottovoce {

// A stream: any cutting into chunks gives bit for bit the samples of one call.
class LinearResampler {
 public:
  LinearResampler(int from_rate, int to_rate);  // throws Error for rates outside 1 kHz to 768 kHz, or too large a filter

  // The output samples that `samples` complete; `last` flushes the stream, and the next samples start another one.
  std::vector<float> accept(std::span<const float> samples, bool last = false);

 private:
  void make_filter(int from_rate, int to_rate);
  std::int64_t safe_outputs(std::int64_t total) const;
  float output_at(std::int64_t index) const;

  bool same_;
  std::int64_t unit_in_, unit_out_;           // the repeating unit, in input and output samples
  std::int64_t taps_ = 0;                     // of the longest phase
  std::vector<std::int64_t> first_, counts_;  // (unit_out,) first input sample of each phase, taps that count
  std::vector<float> weights_;                // (unit_out, taps), zero after a phase's last tap
  std::vector<float> kept_;                   // the end of the input, from sample kept_from_ on
  std::int64_t kept_from_ = 0, made_ = 0;
};

}  // namespace sottovoce
