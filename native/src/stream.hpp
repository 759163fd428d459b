// One utterance on its way through a recognizer (sottovoce.runtime.stream).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "decoding/search.hpp"
#include "file/architecture.hpp"
#include "frontend/fbank.hpp"
#include "network.hpp"

namespace sottovoce {

// Takes sound or features in pieces of any size; a Recognizer creates and decodes it. Nothing is appended at the end.
class Stream {
 public:
  Stream(const ModelInput& input, EncoderMemory encoder, SearchState search);

  // Samples in [-1, 1] of any rate, the same for the whole stream. Throws Error for a model that takes features, for
  // samples that are not finite, after features or after the end.
  void accept_waveform(int sample_rate, std::span<const float> samples);

  // Feature frames (T, dim), one after another. Throws Error for values that are not finite, a part of a frame, after a
  // waveform or after the end.
  void accept_features(std::span<const float> features);

  void input_finished();

  std::int64_t decoded() const { return decoded_; }  // feature frames
  std::int64_t pending() const;                      // feature frames that are ready and not yet decoded

  // The next `count` pending frames, (count, dim); they count as decoded from now on.
  std::vector<float> take(std::int64_t count);

  EncoderMemory encoder;
  SearchState search;
  std::int64_t segment = 0;  // how many segments with a transcript were ended by a reset

 private:
  void check_open() const;

  ModelInput input_;
  std::optional<StreamingFbank> fbank_;
  std::vector<float> features_;
  std::int64_t decoded_ = 0;
  bool finished_ = false;
};

}  // namespace sottovoce
