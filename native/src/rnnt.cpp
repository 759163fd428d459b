#include "rnnt.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace sottovoce {
namespace {

constexpr int kVectorsTogether = 128;  // of a projection, so that a long chunk needs little memory
constexpr double kLayerNormEps = 1e-5;

std::size_t size_of(std::ptrdiff_t count) { return static_cast<std::size_t>(count); }

void copy(const float* from, std::ptrdiff_t count, float* to) {
  if (count > 0) std::memcpy(to, from, size_of(count) * sizeof(float));
}

// How many windows of `size` frames every `stride` there are in so many frames.
int windows(int frames, int size, int stride) { return std::max(0, (frames - (size - stride)) / stride); }

// Windows of x (n, frames, width), oldest frame first -> out (n, count, size * width); the rest -> left.
void stack_frames(const float* x, int n, int frames, std::ptrdiff_t width, int size, int stride, float* out,
                  float* left) {
  const int count = windows(frames, size, stride), rest = frames - count * stride;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const float* from = x + i * frames * width;
    for (int k = 0; k < count; ++k, out += size * width) copy(from + k * stride * width, size * width, out);
    copy(from + count * stride * width, rest * width, left + i * rest * width);
  }
}

// before (n, first, width) and after (n, second, width) -> (n, first + second, width).
void join_frames(const float* before, int first, const float* after, int second, int n, std::ptrdiff_t width,
                 float* out) {
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    copy(before + i * first * width, first * width, out);
    copy(after + i * second * width, second * width, out + first * width);
    out += (first + second) * width;
  }
}

// Reads the layers of one network; a refusal names the tensor.
class Reader {
 public:
  Reader(const TensorSource& source, const Kernels& kernels, ThreadPool& pool, ArithmeticOf arithmetic)
      : source_(source), kernels_(kernels), pool_(pool), arithmetic_(arithmetic) {}

  std::vector<float> floats(const std::string& name, int count) const {
    std::vector<float> values = source_.floats(name, count);
    if (values.size() != static_cast<std::size_t>(count)) {
      throw std::invalid_argument(name + ": expected " + std::to_string(count) + " entries, found " +
                                  std::to_string(values.size()));
    }
    return values;
  }

  std::shared_ptr<const Matrix> matrix(const std::string& name, int rows, int columns) const {
    return read(name, rows, columns, [&](const PackedTensor& tensor) {
      return std::make_shared<const Matrix>(kernels_, columns, tensor.bands, pool_);
    });
  }

  Embedding embedding(const std::string& name, int rows, int columns) const {
    return read(name, rows, columns, [&](const PackedTensor& tensor) { return Embedding(columns, tensor.bands); });
  }

  Dense dense(const std::string& prefix, int rows, int columns) const {
    return {matrix(prefix + ".weight", rows, columns), floats(prefix + ".bias", rows), arithmetic_};
  }

  LstmLayer lstm(const std::string& prefix, int layer, int columns, int units) const {
    const auto name = [&](const char* what) { return prefix + "." + what + "_l" + std::to_string(layer); };
    std::vector<float> bias = floats(name("bias_ih"), 4 * units);
    const std::vector<float> other = floats(name("bias_hh"), 4 * units);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] += other[i];
    return {matrix(name("weight_ih"), 4 * units, columns), matrix(name("weight_hh"), 4 * units, units),
            std::move(bias), arithmetic_};
  }

 private:
  template <class Make>
  std::invoke_result_t<Make, const PackedTensor&> read(const std::string& name, int rows, int columns,
                                                       const Make& make) const {
    const PackedTensor tensor = source_.matrix(name, rows, columns);
    try {
      auto made = make(tensor);
      if (rows_of(made) != rows) {
        throw std::invalid_argument("expected " + std::to_string(rows) + " rows, found " +
                                    std::to_string(rows_of(made)));
      }
      source_.finished(name);
      return made;
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(name + ": " + error.what());
    }
  }

  static int rows_of(const std::shared_ptr<const Matrix>& matrix) { return matrix->rows(); }
  static int rows_of(const Embedding& embedding) { return embedding.rows(); }

  const TensorSource& source_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  ArithmeticOf arithmetic_;
};

// Input width of an encoder layer.
int layer_input(const RnntArchitecture& a, int layer) {
  if (layer == 0) return a.features * a.stack;
  return a.encoder_units * (layer == a.reduction_after ? a.reduction : 1);
}

void run_in_parts(const Dense& dense, const float* x, std::ptrdiff_t vectors, float* out, Workspace& space,
                  ThreadPool& pool) {
  for (std::ptrdiff_t at = 0; at < vectors; at += kVectorsTogether) {
    const int together = static_cast<int>(std::min<std::ptrdiff_t>(kVectorsTogether, vectors - at));
    dense.run(x + at * dense.inputs(), together, out + at * dense.outputs(), space, pool);
  }
}

}  // namespace

void RnntArchitecture::check() const {
  const auto within = [](const char* name, long long value, long long low, long long high) {
    if (value < low || value > high) {
      throw std::invalid_argument("architecture: " + std::string(name) + " must be in [" + std::to_string(low) + ", " +
                                  std::to_string(high) + "], found " + std::to_string(value));
    }
  };
  const std::pair<const char*, int> sizes[] = {{"features", features},
                                               {"vocabulary", vocabulary},
                                               {"stack", stack},
                                               {"stride", stride},
                                               {"encoder_layers", encoder_layers},
                                               {"encoder_units", encoder_units},
                                               {"reduction", reduction},
                                               {"embedding", embedding},
                                               {"predictor_layers", predictor_layers},
                                               {"predictor_units", predictor_units},
                                               {"joiner_units", joiner_units}};
  for (const auto& [name, value] : sizes) within(name, value, 1, 1'000'000);
  within("reduction_after", reduction_after, 0, std::min(64, encoder_layers));
  within("stride", stride, 1, stack);
  within("features * stack", 1LL * features * stack, 1, kMaxColumns);
  within("encoder_units * reduction", 1LL * encoder_units * (reduction_after > 0 ? reduction : 1), 1, kMaxColumns);
}

Rnnt::Rnnt(const RnntArchitecture& architecture, const TensorSource& source, const Kernels& kernels, ThreadPool& pool,
           ArithmeticOf arithmetic)
    : architecture_(architecture), kernels_(&kernels) {
  const RnntArchitecture& a = architecture_;
  a.check();
  const Reader read(source, kernels, pool, arithmetic);
  mean_ = read.floats("encoder.mean", a.features);
  istd_ = read.floats("encoder.istd", a.features);
  for (int i = 0; i < a.encoder_layers; ++i) {
    const std::string at = std::to_string(i);
    encoder_.push_back(read.lstm("encoder.layers." + at, 0, layer_input(a, i), a.encoder_units));
    if (!a.layer_norm) continue;
    norms_.push_back({read.floats("encoder.norms." + at + ".weight", a.encoder_units),
                      read.floats("encoder.norms." + at + ".bias", a.encoder_units)});
  }
  const int width = a.encoder_units * (a.reduction_after == a.encoder_layers ? a.reduction : 1);
  projection_.emplace(read.dense("encoder.projection", a.joiner_units, width));
  embedding_.emplace(read.embedding("predictor.embedding.weight", a.vocabulary, a.embedding));
  for (int i = 0; i < a.predictor_layers; ++i) {
    predictor_.push_back(read.lstm("predictor.lstm", i, i > 0 ? a.predictor_units : a.embedding, a.predictor_units));
  }
  predictor_projection_.emplace(read.dense("predictor.projection", a.joiner_units, a.predictor_units));
  Dense output = read.dense("joiner.output", a.vocabulary, a.joiner_units);
  joiner_bytes_ = output.tile_bytes();
  joiner_.emplace(std::move(output));
}

StreamedBytes Rnnt::streamed_bytes() const {
  const RnntArchitecture& a = architecture_;
  StreamedBytes bytes{projection_->tile_bytes(), predictor_projection_->tile_bytes(), joiner_bytes_};
  for (int i = 0; i < a.encoder_layers; ++i) {
    const LstmLayer& layer = encoder_[size_of(i)];
    const std::size_t steps = size_of(i < a.reduction_after ? a.reduction : 1);
    bytes.encoder += layer.input_bytes() + steps * layer.recurrent_bytes();
  }
  for (const LstmLayer& layer : predictor_) bytes.predictor += layer.input_bytes() + layer.recurrent_bytes();
  return bytes;
}

EncoderCounts Rnnt::counts(int feature_frames, int history_frames, int waiting_frames) const {
  const RnntArchitecture& a = architecture_;
  constexpr int most = std::numeric_limits<int>::max() / 4;
  for (const int count : {feature_frames, history_frames, waiting_frames}) {
    if (count < 0 || count > most) {
      throw std::invalid_argument("frames: expected 0 to " + std::to_string(most) + ", found " + std::to_string(count));
    }
  }
  const int before = history_frames + feature_frames, steps = windows(before, a.stack, a.stride);
  const int history = before - steps * a.stride;
  if (a.reduction_after == 0) return {history, waiting_frames, steps};
  const int frames = windows(waiting_frames + steps, a.reduction, a.reduction);
  return {history, waiting_frames + steps - frames * a.reduction, frames};
}

void Rnnt::encoder_step(const float* features, int n, int feature_frames, const EncoderState& state,
                        const EncoderOutput& output, Workspace& space, ThreadPool& pool) const {
  const RnntArchitecture& a = architecture_;
  const EncoderCounts after = counts(feature_frames, state.history_frames, state.waiting_frames);
  const int before = state.history_frames + feature_frames;
  int frames = windows(before, a.stack, a.stride);
  const std::ptrdiff_t units = a.encoder_units, width = a.features, streams = n;

  Scratch<float> x, y;  // what a layer reads, and what it writes
  float* joined = y.at_least(size_of(streams * before * width));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    copy(state.history + i * state.history_frames * width, state.history_frames * width, joined + i * before * width);
  }
  normalize(features, n, feature_frames, state.mean, joined + state.history_frames * width, before * width);
  stack_frames(joined, n, before, width, a.stack, a.stride, x.at_least(size_of(streams * frames * a.stack * width)),
               output.history);
  for (int i = 0; i < a.encoder_layers; ++i) {
    const LstmState& lstm = state.layers[size_of(i)];
    const std::ptrdiff_t vectors = streams * frames;
    encoder_[size_of(i)].run(x.data(), n, frames, y.at_least(size_of(vectors * units)), lstm.h, lstm.c, space, pool);
    if (a.layer_norm) norm(i, y.data(), vectors, x.at_least(size_of(vectors * units)));
    else std::swap(x, y);
    if (i + 1 != a.reduction_after) continue;
    const int waiting = state.waiting_frames + frames;
    join_frames(state.waiting, state.waiting_frames, x.data(), frames, n, units,
                y.at_least(size_of(streams * waiting * units)));
    frames = after.frames;
    stack_frames(y.data(), n, waiting, units, a.reduction, a.reduction,
                 x.at_least(size_of(streams * frames * a.reduction * units)), output.waiting);
  }
  if (a.reduction_after == 0) copy(state.waiting, streams * state.waiting_frames * units, output.waiting);
  run_in_parts(*projection_, x.data(), streams * frames, output.frames, space, pool);
}

// PCEN if there is any, then (x - mean) * istd; out (n, frames, features), `out_stride` floats from stream to stream.
void Rnnt::normalize(const float* features, int n, int frames, float* mean, float* out,
                     std::ptrdiff_t out_stride) const {
  const std::ptrdiff_t width = architecture_.features;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    for (int t = 0; t < frames; ++t, features += width) {
      float* y = out + i * out_stride + t * width;
      copy(features, width, y);
      if (architecture_.pcen) pcen(y, mean + i * width);
      for (std::ptrdiff_t k = 0; k < width; ++k) y[k] = (y[k] - mean_[size_of(k)]) * istd_[size_of(k)];
    }
  }
}

// One frame in place, with the operations of sottovoce.runtime.pcen in their order.
void Rnnt::pcen(float* x, float* mean) const {
  const Pcen& settings = *architecture_.pcen;
  const float keep = static_cast<float>(1.0 - settings.smoothing), share = static_cast<float>(settings.smoothing);
  const float gain = static_cast<float>(-settings.gain), bias = static_cast<float>(settings.bias);
  const float root = std::sqrt(bias);
  constexpr std::ptrdiff_t kBlock = 128;
  const std::ptrdiff_t width = architecture_.features;
  for (std::ptrdiff_t start = 0; start < width; start += kBlock) {
    const std::ptrdiff_t count = std::min(kBlock, width - start);
    float* energy = x + start;
    float* level = mean + start;
    float divisor[kBlock];
    kernels_->exp(energy, energy, count);
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      level[k] = level[k] * keep + energy[k] * share;
      divisor[k] = level[k] + Pcen::kFloor;
    }
    kernels_->log(divisor, divisor, count);
    for (std::ptrdiff_t k = 0; k < count; ++k) divisor[k] *= gain;
    kernels_->exp(divisor, divisor, count);
    for (std::ptrdiff_t k = 0; k < count; ++k) energy[k] = std::sqrt(energy[k] * divisor[k] + bias) - root;
  }
}

void Rnnt::norm(int layer, const float* x, std::ptrdiff_t vectors, float* y) const {
  const Norm& norm = norms_[size_of(layer)];
  const std::ptrdiff_t units = architecture_.encoder_units;
  for (std::ptrdiff_t at = 0; at < vectors * units; at += units) {
    kernels_->layer_norm(x + at, norm.weight.data(), norm.bias.data(), kLayerNormEps, y + at, units);
  }
}

void Rnnt::predictor_step(const std::int64_t* tokens, int n, std::span<const LstmState> layers, float* output,
                          Workspace& space, ThreadPool& pool) const {
  const RnntArchitecture& a = architecture_;
  const std::ptrdiff_t units = a.predictor_units;
  Scratch<float> embedded, projected;
  float* x = embedded.at_least(size_of(static_cast<std::ptrdiff_t>(n) * a.embedding));
  for (int i = 0; i < n; ++i) embedding_->row(tokens[i], x + static_cast<std::ptrdiff_t>(i) * a.embedding);
  float* gates = projected.at_least(size_of(n * 4 * units));
  const float* input = x;
  for (std::size_t i = 0; i < predictor_.size(); ++i) {
    predictor_[i].project(input, n, gates, space, pool);
    predictor_[i].step(gates, 4 * units, n, layers[i].h, layers[i].c, space, pool);
    input = layers[i].h;
  }
  predictor_projection_->run(input, n, output, space, pool);
}

}  // namespace sottovoce
