// Every kernel path that this machine can run, against plain loops, for sanitizers and for machines without Python.
// Exits with 1 and one line for each thing that differs.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bits.hpp"
#include "cpu.hpp"
#include "layers.hpp"
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
  x.quantize(kernels, input.data(), {columns, n, columns});
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
    x.quantize(kernels, input.data(), {kMaxColumns, 1, kMaxColumns});
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
  for (const auto member : {&Kernels::exp, &Kernels::tanh, &Kernels::sigmoid}) {
    (kernels.*member)(x.data(), a.data(), count);
    (plain.*member)(x.data(), b.data(), count);
    same("exp, tanh or sigmoid");
  }
  x[0] = x[1] = 1.0f;
  kernels.log_softmax(x.data(), a.data(), count);
  plain.log_softmax(x.data(), b.data(), count);
  same("log_softmax");
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
  }
  check_refusals();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
