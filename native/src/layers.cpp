#include "layers.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "bits.hpp"

namespace sottovoce {
namespace {

constexpr int kRowsTogether = 32;  // of logits: they stay in a cache until they are summed up
constexpr int kRowsASum = 8;       // that a kernel sums up side by side
constexpr int kVectorsTogether = 128;  // frames of all streams whose input products wait for their turn

void expect(const char* what, int expected, long long found) {
  if (found != expected) {
    throw std::invalid_argument(std::string(what) + ": expected " + std::to_string(expected) + ", found " +
                                std::to_string(found));
  }
}

template <int Bits>
void decode_codes(const std::uint8_t* codes, const float* levels, float scale, int columns, float* out) {
  for (int start = 0; start < columns; start += 8) {
    const std::uint64_t eight = spread<Bits>(load_word(codes + start / 8 * Bits));
    const int count = std::min(8, columns - start);
    for (int i = 0; i < count; ++i) out[start + i] = levels[eight >> (8 * i) & 0xff] * scale;
  }
}

using DecodeCodes = void (*)(const std::uint8_t*, const float*, float, int, float*);

template <int... Bits>
DecodeCodes select_decoder(int bits, std::integer_sequence<int, Bits...>) {
  constexpr DecodeCodes decoders[] = {decode_codes<Bits + 1>...};
  return decoders[bits - 1];
}

}  // namespace

Dense::Dense(std::shared_ptr<const Matrix> weight, std::vector<float> bias, ArithmeticOf arithmetic)
    : arithmetic_(&(weight->kernels().*arithmetic)), weight_(std::move(weight)), bias_(std::move(bias)) {
  expect("bias", weight_->rows(), static_cast<long long>(bias_.size()));
}

void Dense::run(const float* x, int n, float* out, Workspace& space, ThreadPool& pool) const {
  space.activations.quantize(*arithmetic_, x, {inputs(), n, inputs()});
  weight_->product(space.activations.view(), out, outputs(), pool);
  for (int i = 0; i < n; ++i) kernels().add(bias_.data(), out + static_cast<std::ptrdiff_t>(i) * outputs(), outputs());
}

void Dense::log_softmax_at(const float* x, int n, const std::int64_t* rows, const std::int64_t* columns,
                           std::ptrdiff_t count, float* out, Workspace& space, ThreadPool& pool) const {
  const std::ptrdiff_t width = outputs();
  float* logits = space.projected.at_least(static_cast<std::size_t>(kRowsTogether * width));
  float* peak = space.totals.at_least(2 * kRowsTogether);
  float* log_total = peak + kRowsTogether;
  std::ptrdiff_t k = 0;
  for (int start = 0; start < n; start += kRowsTogether) {
    const int together = std::min(kRowsTogether, n - start);
    run(x + static_cast<std::ptrdiff_t>(start) * inputs(), together, logits, space, pool);
    pool.split((together + kRowsASum - 1) / kRowsASum, 2, [&](Range groups) {
      const int first = groups.first * kRowsASum, last = std::min(groups.last * kRowsASum, together);
      if (first >= last) return;
      kernels().log_totals(logits + first * width, width, width, last - first, peak + first, log_total + first);
    });
    for (; k < count && rows[k] < start + together; ++k) {
      const std::ptrdiff_t row = rows[k] - start;
      out[k] = (logits[row * width + columns[k]] - peak[row]) - log_total[row];
    }
  }
}

LstmLayer::LstmLayer(std::shared_ptr<const Matrix> input, std::shared_ptr<const Matrix> recurrent,
                     std::vector<float> bias, ArithmeticOf arithmetic)
    : arithmetic_(&(recurrent->kernels().*arithmetic)), input_(std::move(input)), recurrent_(std::move(recurrent)), bias_(std::move(bias)) {
  expect("rows of the recurrent weight", 4 * units(), recurrent_->rows());
  expect("rows of the input weight", 4 * units(), input_->rows());
  expect("bias", 4 * units(), static_cast<long long>(bias_.size()));
}

void LstmLayer::project(const float* x, int n, float* projected, Workspace& space, ThreadPool& pool) const {
  space.activations.quantize(*arithmetic_, x, {inputs(), n, inputs()});
  input_->product(space.activations.view(), projected, 4 * units(), pool);
}

void LstmLayer::step(const float* projected, std::ptrdiff_t stride, int n, float* h, float* c, Workspace& space,
                     ThreadPool& pool) const {
  const std::ptrdiff_t size = units();
  float* recurrent = space.recurrent.at_least(static_cast<std::size_t>(n) * static_cast<std::size_t>(4 * size));
  space.activations.quantize(*arithmetic_, h, {units(), n, size});
  recurrent_->product(space.activations.view(), recurrent, 4 * size, pool);
  for (int i = 0; i < n; ++i) {
    arithmetic_->lstm_cell(recurrent + i * 4 * size, projected + i * stride, bias_.data(), size, c + i * size,
                           h + i * size);
  }
}

void LstmLayer::run(const float* x, int n, int frames, float* outputs, float* h, float* c, Workspace& space,
                    ThreadPool& pool) const {
  const std::ptrdiff_t size = units(), gates = 4 * size, width = inputs();
  const int most = std::max(1, kVectorsTogether / std::max(1, n));
  for (int start = 0; start < frames; start += most) {
    const int together = std::min(most, frames - start);
    const std::ptrdiff_t stride = together * gates;  // projected is (n, together, 4 units)
    float* projected = space.projected.at_least(static_cast<std::size_t>(n * stride));
    space.activations.quantize(*arithmetic_, x + start * width, {inputs(), n, frames * width, together, width});
    input_->product(space.activations.view(), projected, gates, pool);
    for (int t = 0; t < together; ++t) {
      step(projected + t * gates, stride, n, h, c, space, pool);
      for (int i = 0; i < n; ++i) {
        float* output = outputs + (static_cast<std::ptrdiff_t>(i) * frames + start + t) * size;
        std::memcpy(output, h + i * size, static_cast<std::size_t>(size) * sizeof(float));
      }
    }
  }
}

Embedding::Embedding(int columns, std::span<const PackedBand> bands) : columns_(columns) {
  check_bands(columns, bands);
  bands_.reserve(bands.size());
  for (const PackedBand& source : bands) {
    Band band{rows_, source.rows, source.bits, {}, {}, {}};
    std::copy(source.levels.begin(), source.levels.end(), band.levels);
    band.row_scale.assign(source.row_scale.begin(), source.row_scale.end());
    band.codes.reserve(source.codes.size() + 8);
    band.codes.assign(source.codes.begin(), source.codes.end());
    band.codes.resize(source.codes.size() + 8);
    bands_.push_back(std::move(band));
    rows_ += source.rows;
  }
}

void Embedding::row(std::int64_t id, float* out) const {
  if (id < 0) {
    std::fill_n(out, columns_, 0.0f);
    return;
  }
  if (id >= rows_) {
    throw std::out_of_range("token: expected an id below " + std::to_string(rows_) + ", found " + std::to_string(id));
  }
  const auto after = std::upper_bound(bands_.begin(), bands_.end(), id,
                                      [](std::int64_t value, const Band& band) { return value < band.first_row; });
  const Band& band = *std::prev(after);
  const std::size_t at = static_cast<std::size_t>(id - band.first_row);
  const DecodeCodes decode = select_decoder(band.bits, std::make_integer_sequence<int, 8>{});
  decode(band.codes.data() + at * row_bytes(static_cast<std::size_t>(columns_), band.bits), band.levels,
         band.row_scale[at], columns_, out);
}

void Joiner::logits(const float* encoder, const float* predictor, int n, float* out, Workspace& space,
                    ThreadPool& pool) const {
  const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(n) * units();
  float* joined = space.joined.at_least(static_cast<std::size_t>(count));
  std::copy_n(encoder, count, joined);
  output_.kernels().add(predictor, joined, count);
  output_.arithmetic().tanh(joined, joined, count);
  output_.run(joined, n, out, space, pool);
}

void Joiner::log_probabilities(const float* encoder, const float* predictor, int n, float* out, Workspace& space,
                               ThreadPool& pool) const {
  logits(encoder, predictor, n, out, space, pool);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    output_.kernels().log_softmax(out + i * vocabulary(), out + i * vocabulary(), vocabulary());
  }
}

void Joiner::best(const float* encoder, const float* predictor, int n, std::int64_t* tokens, float* log_probability,
                  Workspace& space, ThreadPool& pool) const {
  float* out = space.projected.at_least(static_cast<std::size_t>(n) * static_cast<std::size_t>(vocabulary()));
  logits(encoder, predictor, n, out, space, pool);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    tokens[i] = output_.kernels().log_softmax_argmax(out + i * vocabulary(), vocabulary(), log_probability + i);
  }
}

}  // namespace sottovoce
