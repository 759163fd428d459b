#include "stream.hpp"

#include <string>
#include <utility>

#include "error.hpp"

namespace sottovoce {

Stream::Stream(const ModelInput& input, EncoderMemory encoder_start, SearchState search_start)
    : encoder(std::move(encoder_start)), search(std::move(search_start)), input_(input) {}

void Stream::accept_waveform(int sample_rate, std::span<const float> samples) {
  if (!input_.settings) {
    throw Error("this model takes features (" + std::to_string(input_.dim) + " values a frame), not waveforms");
  }
  if (!fbank_ && (decoded_ > 0 || !features_.empty())) {
    throw Error("this stream already took features: it cannot take a waveform too");
  }
  check_open();
  if (fbank_) {
    fbank_->accept_waveform(sample_rate, samples);
    return;
  }
  StreamingFbank first(*input_.settings);  // the stream stays as it was where these samples are refused
  first.accept_waveform(sample_rate, samples);
  fbank_ = std::move(first);
}

void Stream::accept_features(std::span<const float> features) {
  if (fbank_) throw Error("this stream already took a waveform: it cannot take features too");
  check_open();
  if (features.size() % static_cast<std::size_t>(input_.dim) != 0) {
    throw Error("features: expected " + std::to_string(input_.dim) + " values a frame");
  }
  check_values(features, "features");
  features_.insert(features_.end(), features.begin(), features.end());
}

void Stream::input_finished() {
  if (fbank_ && !finished_) fbank_->input_finished();
  finished_ = true;
}

std::int64_t Stream::pending() const {
  return fbank_ ? fbank_->frames_ready() : static_cast<std::int64_t>(features_.size()) / input_.dim;
}

std::vector<float> Stream::take(std::int64_t count) {
  decoded_ += count;
  if (fbank_) return fbank_->take(count);
  const auto end = features_.begin() + count * input_.dim;
  std::vector<float> taken(features_.begin(), end);
  features_.erase(features_.begin(), end);
  return taken;
}

void Stream::check_open() const {
  if (finished_) throw Error("this stream is finished: create another one for more input");
}

}  // namespace sottovoce
