#include "frontend/fbank.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "kaldi-native-fbank/csrc/feature-fbank.h"

namespace sottovoce {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;  // samples at once: the library counts samples in 32 bits
constexpr float kLargest = 1e10f;                     // no power of it leaves float32
constexpr std::int32_t kMostFrames = 1 << 30;         // and frames too: 4 months of 10 ms

knf::FbankOptions make_options(const FeatureSettings& settings) {
  knf::FbankOptions options;
  knf::FrameExtractionOptions& frame = options.frame_opts;
  frame.samp_freq = static_cast<float>(settings.sample_rate);
  frame.frame_length_ms = static_cast<float>(settings.frame_ms);
  frame.frame_shift_ms = static_cast<float>(settings.shift_ms);
  frame.dither = 0.0f;
  frame.snip_edges = false;
  frame.window_type = settings.nemo ? "hann" : "povey";
  frame.remove_dc_offset = !settings.nemo;
  frame.preemph_coeff = 0.97f;
  frame.round_to_power_of_two = true;
  options.mel_opts.num_bins = settings.bins;
  options.mel_opts.low_freq = static_cast<float>(settings.low_hz);
  options.mel_opts.high_freq = static_cast<float>(settings.high_hz);
  options.mel_opts.is_librosa = settings.nemo;
  options.use_energy = false;
  options.use_log_fbank = true;
  options.use_power = true;
  return options;
}

}  // namespace

void check_values(std::span<const float> values, const char* name) {
  bool finite = true;
  float peak = 0;
  for (const float value : values) {
    finite = finite && std::isfinite(value);
    peak = std::max(peak, std::abs(value));
  }
  if (!finite) throw Error(std::string(name) + ": expected finite numbers, found NaN or infinity");
  if (peak > kLargest) throw Error(std::string(name) + ": expected numbers of at most 1e10");
}

struct StreamingFbank::Computer {
  explicit Computer(const knf::FbankOptions& options) : mel(options), window(options.frame_opts) {}

  knf::FbankComputer mel;
  knf::FeatureWindowFunction window;
  std::vector<float> frame;  // what the window is extracted to
};

StreamingFbank::StreamingFbank(const FeatureSettings& settings)
    : settings_(settings), computer_(std::make_unique<Computer>(make_options(settings))) {}

StreamingFbank::~StreamingFbank() = default;
StreamingFbank::StreamingFbank(StreamingFbank&&) noexcept = default;
StreamingFbank& StreamingFbank::operator=(StreamingFbank&&) noexcept = default;

void StreamingFbank::accept_waveform(int sample_rate, std::span<const float> samples) {
  if (finished_) throw Error("this stream was finished; create another one for more audio");
  check_values(samples, "samples");
  if (rate_ == 0) {
    if (sample_rate != settings_.sample_rate) resampler_.emplace(sample_rate, settings_.sample_rate);
    rate_ = sample_rate;
  } else if (sample_rate != rate_) {
    throw Error("one sample rate a stream: it began at " + std::to_string(rate_) + " Hz, now " +
                std::to_string(sample_rate) + " Hz was given");
  }
  for (std::size_t at = 0; at < samples.size(); at += kPiece) {
    const auto piece = samples.subspan(at, std::min(kPiece, samples.size() - at));
    if (resampler_) {
      feed(resampler_->accept(piece));
    } else {
      feed(piece);
    }
  }
}

void StreamingFbank::input_finished() {
  if (finished_) return;
  finished_ = true;
  if (resampler_) feed(resampler_->accept({}, true));
  compute(true);
}

std::vector<float> StreamingFbank::take(std::int64_t count) {
  if (count < 0 || count > frames_ready()) throw Error("frames: more asked for than are there");
  const auto end = frames_.begin() + count * settings_.bins;
  std::vector<float> taken(frames_.begin(), end);
  frames_.erase(frames_.begin(), end);
  return taken;
}

void StreamingFbank::feed(std::span<const float> samples) {
  for (std::size_t at = 0; at < samples.size(); at += kPiece) {
    const auto piece = samples.subspan(at, std::min(kPiece, samples.size() - at));
    if (computed_ > kMostFrames) throw Error("this stream is too long");
    wave_.insert(wave_.end(), piece.begin(), piece.end());
    compute(false);
  }
}

void StreamingFbank::compute(bool flush) {
  const knf::FrameExtractionOptions& options = computer_->mel.GetFrameOptions();
  const std::int64_t total = wave_from_ + static_cast<std::int64_t>(wave_.size());
  const std::int32_t stop = knf::NumFrames(total, options, flush);
  for (; computed_ < stop; ++computed_) {
    std::fill(computer_->frame.begin(), computer_->frame.end(), 0.0f);
    knf::ExtractWindow(wave_from_, wave_, computed_, options, computer_->window, &computer_->frame);
    frames_.resize(frames_.size() + static_cast<std::size_t>(settings_.bins));
    computer_->mel.Compute(0.0f, 1.0f, &computer_->frame, frames_.data() + frames_.size() - settings_.bins);
  }
  // Samples before the next frame are done with.
  const std::int64_t drop = std::clamp<std::int64_t>(knf::FirstSampleOfFrame(computed_, options) - wave_from_, 0,
                                                     static_cast<std::int64_t>(wave_.size()));
  wave_.erase(wave_.begin(), wave_.begin() + drop);
  wave_from_ += drop;
}

}  // namespace sottovoce
