// Every kernel path that this machine can run, against plain loops, for sanitizers and for machines without Python.
// Exits with 1 and one line for each thing that differs.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bits.hpp"
#include "cpu.hpp"
#include "layers.hpp"
#include "rnnt.hpp"
#include "tiling.hpp"

namespace {

using namespace sottovoce;

int failures = 0;

void check(bool right, const std::string& what) {
  if (right) return;
  std::printf("FAILED %s\n", what.c_str());
  ++failures;
}

std::uint64_t random_word() {
  static std::uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

float random_float() { return static_cast<float>(static_cast<double>(random_word() % 20001) / 10000.0 - 1.0); }

std::vector<float> random_floats(std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random_float();
  return values;
}

// A band with its codes both packed and one a byte.
struct TestBand {
  int bits, rows;
  std::vector<std::int8_t> levels;
  std::vector<float> row_scale;
  std::vector<std::uint8_t> plain, packed;

  TestBand(int width, int count, int columns) : bits(width), rows(count) {
    const std::size_t most = std::size_t{1} << bits;
    const std::size_t used = bits == 1 ? 2 : most - random_word() % (most / 2);
    for (std::size_t k = 0; k < used; ++k) {
      levels.push_back(static_cast<std::int8_t>(-128 + static_cast<int>(255 * k / (used - 1))));
    }
    row_scale = random_floats(static_cast<std::size_t>(rows));
    const std::size_t stride = row_bytes(static_cast<std::size_t>(columns), bits);
    packed.resize(static_cast<std::size_t>(rows) * stride);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        const auto code = static_cast<std::uint8_t>(random_word() % used);
        plain.push_back(code);
        for (int b = 0; b < bits; ++b) {
          const std::size_t at = static_cast<std::size_t>(c * bits + b);
          packed[static_cast<std::size_t>(r) * stride + at / 8] |= static_cast<std::uint8_t>((code >> b & 1) << at % 8);
        }
      }
    }
  }

  PackedBand view() const { return {bits, rows, levels, row_scale, packed}; }
};

void check_product(const Kernels& kernels, int columns, const std::vector<TestBand>& bands, int n, ThreadPool& pool) {
  std::vector<PackedBand> views;
  for (const TestBand& band : bands) views.push_back(band.view());
  const Matrix matrix(kernels, columns, views, pool);
  const std::vector<float> input = random_floats(static_cast<std::size_t>(n) * static_cast<std::size_t>(columns));
  Activations x;
  x.quantize(kernels.int8, input.data(), {columns, n, columns});
  const ActivationsView view = x.view();
  std::vector<float> out(static_cast<std::size_t>(n) * static_cast<std::size_t>(matrix.rows()));
  matrix.product(view, out.data(), matrix.rows(), pool);
  int wrong = 0;
  for (int i = 0; i < n; ++i) {
    std::size_t row = 0;
    for (const TestBand& band : bands) {
      for (int r = 0; r < band.rows; ++r, ++row) {
        std::int32_t sum = 0;
        for (int c = 0; c < columns; ++c) {
          const std::uint8_t code = band.plain[static_cast<std::size_t>(r * columns + c)];
          sum += band.levels[code] * view.q[i * view.stride + c];
        }
        const float expected = static_cast<float>(sum) * (band.row_scale[static_cast<std::size_t>(r)] * view.scale[i]);
        wrong += out[static_cast<std::size_t>(i * matrix.rows()) + row] != expected;
      }
    }
  }
  check(wrong == 0, std::string(kernels.name) + ": " + std::to_string(bands[0].bits) + " bits, " +
                        std::to_string(matrix.rows()) + " x " + std::to_string(columns) + ", " + std::to_string(n) +
                        " vectors: " + std::to_string(wrong) + " entries differ");
}

void check_products(const Kernels& kernels, ThreadPool& pool) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int columns : {1, 31, 32, 33, 100}) {
      for (const int n : {1, 2, 3, 7, 13}) {
        std::vector<TestBand> bands;
        bands.emplace_back(bits, 37, columns);
        check_product(kernels, columns, bands, n, pool);
      }
    }
    std::vector<TestBand> bands;
    bands.emplace_back(bits, 5, 70);
    bands.emplace_back(9 - bits, 260, 70);
    check_product(kernels, 70, bands, 1, pool);
    check_product(kernels, 70, bands, 5, pool);
  }
}

void check_largest_sum(const Kernels& kernels, ThreadPool& pool) {
  const std::vector<std::int8_t> levels = {-128, 127};
  const std::vector<float> scale(1, 1.0f);
  const std::vector<std::uint8_t> codes(row_bytes(kMaxColumns, 1));  // all -128
  const PackedBand band{1, 1, levels, scale, codes};
  const Matrix matrix(kernels, kMaxColumns, std::span(&band, 1), pool);
  for (const float sign : {-1.0f, 1.0f}) {
    const std::vector<float> input(kMaxColumns, sign);
    Activations x;
    x.quantize(kernels.int8, input.data(), {kMaxColumns, 1, kMaxColumns});
    float out = 0;
    matrix.product(x.view(), &out, 1, pool);
    const float expected = static_cast<float>(-128 * 127 * kMaxColumns) * sign * (1.0f / 127.0f);
    check(out == expected, std::string(kernels.name) + ": the largest sum");
  }
}

// Both paths of elementwise code on the same numbers, and awkward ones.
void check_elementwise(const Kernels& kernels) {
  std::vector<float> x = random_floats(1003);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= static_cast<float>(i % 100);
  x[0] = -INFINITY;
  x[1] = INFINITY;
  x[2] = -0.0f;
  const Kernels& plain = portable_kernels();
  std::vector<float> a(x.size()), b(x.size());
  const auto count = static_cast<std::ptrdiff_t>(x.size());
  const auto same = [&](const char* what) {
    check(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, std::string(kernels.name) + ": " + what);
  };
  kernels.exp(x.data(), a.data(), count);
  plain.exp(x.data(), b.data(), count);
  same("exp");
  for (const auto arithmetic : {&Kernels::int8, &Kernels::accelerator}) {
    for (const auto member : {&Arithmetic::tanh, &Arithmetic::sigmoid}) {
      (kernels.*arithmetic.*member)(x.data(), a.data(), count);
      (plain.*arithmetic.*member)(x.data(), b.data(), count);
      same("tanh or sigmoid");
    }
  }
  x[0] = x[1] = 1.0f;
  kernels.log_softmax(x.data(), a.data(), count);
  plain.log_softmax(x.data(), b.data(), count);
  same("log_softmax");
  constexpr int kRows = 11;  // eight together, then three alone
  const std::ptrdiff_t columns = count / kRows;
  std::vector<float> peak(kRows), log_total(kRows), row(x.size());
  kernels.log_totals(x.data(), columns, columns, kRows, peak.data(), log_total.data());
  for (int n = 0; n < kRows; ++n) {
    plain.log_softmax(x.data() + n * columns, row.data(), columns);
    const float found = (x[static_cast<std::size_t>(n * columns) + 5] - peak[static_cast<std::size_t>(n)]) -
                        log_total[static_cast<std::size_t>(n)];
    check(found == row[5], std::string(kernels.name) + ": log_totals");
  }
  kernels.layer_norm(x.data(), x.data(), x.data(), 1e-5, a.data(), count);
  plain.layer_norm(x.data(), x.data(), x.data(), 1e-5, b.data(), count);
  same("layer_norm");
  std::vector<float> broken(33, NAN);  // not defined, but it must end
  float log_probability = 0;
  const std::ptrdiff_t best = kernels.log_softmax_argmax(broken.data(), 33, &log_probability);
  check(best >= 0 && best < 33, std::string(kernels.name) + ": argmax of NaN");
}

// A chunk must equal its frames one by one, for one thread and several.
void check_lstm(const Kernels& kernels) {
  constexpr int kInputs = 45, kUnits = 70, kStreams = 3, kFrames = 50;
  const TestBand input(5, 4 * kUnits, kInputs), recurrent(3, 4 * kUnits, kUnits);
  const std::vector<float> x = random_floats(kStreams * kFrames * kInputs);
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const PackedBand views[] = {input.view(), recurrent.view()};
    const LstmLayer layer(std::make_shared<const Matrix>(kernels, kInputs, std::span(views, 1), pool),
                          std::make_shared<const Matrix>(kernels, kUnits, std::span(views + 1, 1), pool),
                          std::vector<float>(4 * kUnits, 0.1f));
    Workspace space;
    std::vector<float> outputs(kStreams * kFrames * kUnits), h(kStreams * kUnits), c(kStreams * kUnits);
    layer.run(x.data(), kStreams, kFrames, outputs.data(), h.data(), c.data(), space, pool);
    if (first.empty()) first = outputs;
    check(outputs == first, std::string(kernels.name) + ": LSTM with several threads");
    std::vector<float> h1(kUnits), c1(kUnits), projected(4 * kUnits), last(kUnits);
    for (int t = 0; t < kFrames; ++t) {
      layer.project(x.data() + (kFrames + t) * kInputs, 1, projected.data(), space, pool);  // the second stream
      layer.step(projected.data(), 4 * kUnits, 1, h1.data(), c1.data(), space, pool);
      check(std::memcmp(h1.data(), outputs.data() + (kFrames + t) * kUnits, sizeof(float) * kUnits) == 0,
            std::string(kernels.name) + ": LSTM frame by frame");
    }
  }
}

// Random tensors, made when they are first asked for and the same ever after.
class RandomSource : public TensorSource {
 public:
  PackedTensor matrix(const std::string& name, int rows, int columns) const override {
    if (name == absent) throw std::invalid_argument(name + ": missing");
    auto& bands = matrices_[name];
    if (bands.empty()) {
      if (rows > 1) bands.emplace_back(5, rows / 2, columns);
      bands.emplace_back(3, rows - rows / 2, columns);
      for (TestBand& band : bands) {
        for (float& scale : band.row_scale) scale = 0.01f + 0.01f * scale * scale;
      }
    }
    PackedTensor tensor;
    for (const TestBand& band : bands) tensor.bands.push_back(band.view());
    return tensor;
  }

  std::vector<float> floats(const std::string& name, int count) const override {
    auto& values = vectors_[name];
    if (values.empty()) values = random_floats(static_cast<std::size_t>(count));
    return values;
  }

  void finished(const std::string&) const override { ++tiled; }

  std::string absent;
  mutable int tiled = 0;

 private:
  mutable std::map<std::string, std::vector<TestBand>> matrices_;
  mutable std::map<std::string, std::vector<float>> vectors_;
};

constexpr RnntArchitecture kSmall{5, 12, 4, 2, 2, 20, true, 2, 1, 8, 2, 9, 10, Pcen{0.05, 0.9, 1.0}};

// Streams that go through an encoder together, in chunks of the given sizes, and all their frames.
struct EncoderRun {
  std::vector<std::vector<float>> frames;  // (streams,) of (frames, joiner units)

  EncoderRun(const Rnnt& network, const std::vector<float>& x, int n, int all, const std::vector<int>& chunks)
      : frames(static_cast<std::size_t>(n)) {
    const RnntArchitecture& a = network.architecture();
    ThreadPool pool(1);
    Workspace space;
    const auto count = [&](int each, int width) { return static_cast<std::size_t>(n * each * width); };
    std::vector<float> mean(count(1, a.features), Pcen::kStart), history(count(a.stack - a.stride, a.features)),
        waiting;
    std::vector<std::vector<float>> states(static_cast<std::size_t>(2 * a.encoder_layers));
    std::vector<LstmState> layers;
    for (std::size_t i = 0; i < states.size(); ++i) states[i].resize(count(1, a.encoder_units));
    for (std::size_t i = 0; i < states.size(); i += 2) layers.push_back({states[i].data(), states[i + 1].data()});
    int left = a.stack - a.stride, waits = 0, at = 0;
    for (const int chunk : chunks) {
      std::vector<float> piece;
      for (int i = 0; i < n; ++i) {
        const auto from = x.begin() + (i * all + at) * a.features;
        piece.insert(piece.end(), from, from + chunk * a.features);
      }
      const EncoderCounts after = network.counts(chunk, left, waits);
      std::vector<float> out(count(after.frames, a.joiner_units)), history_after(count(after.history, a.features)),
          waiting_after(count(after.waiting, a.encoder_units));
      network.encoder_step(piece.data(), n, chunk, {mean.data(), history.data(), left, waiting.data(), waits, layers},
                           {out.data(), history_after.data(), waiting_after.data()}, space, pool);
      for (int i = 0; i < n; ++i) {
        const auto from = out.begin() + i * after.frames * a.joiner_units;
        auto& to = frames[static_cast<std::size_t>(i)];
        to.insert(to.end(), from, from + after.frames * a.joiner_units);
      }
      history = history_after;
      waiting = waiting_after;
      left = after.history;
      waits = after.waiting;
      at += chunk;
    }
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_rnnt(const Kernels& kernels, const RandomSource& source) {
  constexpr int kStreams = 3, kFrames = 41;
  const std::string name = kernels.name;
  ThreadPool pool(2);
  const Rnnt network(kSmall, source, kernels, pool), plain(kSmall, source, portable_kernels(), pool);
  check(network.streamed_bytes().encoder > 0, name + ": streamed bytes");
  const std::vector<float> x = random_floats(kStreams * kFrames * 5);
  const EncoderRun whole(network, x, kStreams, kFrames, {kFrames}), reference(plain, x, kStreams, kFrames, {kFrames});
  const EncoderRun pieces(network, x, kStreams, kFrames, {0, 1, 1, 7, 2, 3, 20, 0, 7});
  for (int i = 0; i < kStreams; ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    const std::vector<float> alone(x.begin() + i * kFrames * 5, x.begin() + (i + 1) * kFrames * 5);
    check(whole.frames[at].size() == kFrames / 4 * 10, name + ": frames of a stream");
    check(same(whole.frames[at], reference.frames[at]), name + ": an encoder as on the portable path");
    check(same(whole.frames[at], pieces.frames[at]), name + ": an encoder in chunks");
    check(same(whole.frames[at], EncoderRun(network, alone, 1, kFrames, {kFrames}).frames[0]),
          name + ": a stream alone");
  }

  Workspace space;
  std::vector<float> state[4], out(2 * 10), log_probabilities(2 * 12);
  for (auto& values : state) values.resize(2 * 9);
  const LstmState layers[] = {{state[0].data(), state[1].data()}, {state[2].data(), state[3].data()}};
  const std::int64_t tokens[] = {-1, 11}, beyond[] = {0, 12};
  network.predictor_step(tokens, 2, layers, out.data(), space, pool);
  network.joiner().log_probabilities(whole.frames[0].data(), out.data(), 2, log_probabilities.data(), space, pool);
  double total = 0;
  for (std::size_t k = 0; k < 12; ++k) total += std::exp(static_cast<double>(log_probabilities[k]));
  check(std::fabs(total - 1) < 1e-5, name + ": probabilities add up to " + std::to_string(total));
  bool refused = false;
  try {
    network.predictor_step(beyond, 2, layers, out.data(), space, pool);
  } catch (const std::out_of_range&) {
    refused = true;
  }
  check(refused, name + ": a token beyond the vocabulary is refused");
}

void check_rnnt_refusals() {
  ThreadPool pool(1);
  RandomSource source;
  const auto refused = [&](const RnntArchitecture& a) {
    try {
      const Rnnt network(a, source, portable_kernels(), pool);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  check(!refused(kSmall) && source.tiled == 12, "a good network is made, and every matrix said to be finished");
  RnntArchitecture wrong = kSmall;
  wrong.stack = 1;
  check(refused(wrong), "a stack below the stride is refused");
  wrong = kSmall;
  wrong.reduction_after = 3;
  check(refused(wrong), "a reduction after the last layer is refused");
  source.absent = "predictor.lstm.weight_hh_l1";
  check(refused(kSmall), "a missing tensor is refused");
}

void check_refusals() {
  ThreadPool pool(1);
  const TestBand band(4, 3, 10);
  const auto refused = [&](int columns, PackedBand view) {
    try {
      check_bands(columns, std::span(&view, 1));
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  PackedBand view = band.view();
  check(!refused(10, view), "a good band is taken");
  check(refused(0, view) && refused(12, view) && refused(kMaxColumns + 1, view), "wrong columns are refused");
  view.bits = 9;
  check(refused(10, view), "9 bits are refused");
  view = band.view();
  view.levels = view.levels.first(0);
  check(refused(10, view), "no levels are refused");
  const Embedding table(10, std::vector{band.view()});
  std::vector<float> row(10);
  table.row(2, row.data());
  check(row[9] == static_cast<float>(band.levels[band.plain[29]]) * band.row_scale[2], "an embedding row");
}

}  // namespace

int main() {
  const RandomSource source;
  for (const KernelPath& path : kernel_paths()) {
    if (!path.available) continue;
    const Kernels& kernels = path.kernels();
    std::printf("%s\n", kernels.name);
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      check_products(kernels, pool);
    }
    ThreadPool pool(1);
    check_largest_sum(kernels, pool);
    check_elementwise(kernels);
    check_lstm(kernels);
    check_rnnt(kernels, source);
  }
  check_refusals();
  check_rnnt_refusals();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
