// One frame's products of 5 x LSTM-1024 (42 million weights) at each width, and the machine's read bandwidth beside
// them.
//
//   bench_products [kernel] [rounds] [vectors]
//
// "hot": every width alone in its loop; "evicted": with 96 MB read between two passes, so that weights come from
// memory. Widths take turns; the least and the median of all rounds are printed, in milliseconds.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bits.hpp"
#include "cpu.hpp"
#include "matrix.hpp"

namespace {

using namespace sottovoce;

constexpr int kMatrices = 10, kRows = 4096, kColumns = 1024;
constexpr int kWidths[] = {8, 7, 6, 5, 4, 3, 2, 1};
constexpr std::size_t kEvicted = std::size_t{96} << 20;

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::uint64_t random_word() {
  static std::uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

struct Model {
  int bits;
  std::vector<Matrix> matrices;

  Model(const Kernels& kernels, int width, ThreadPool& pool) : bits(width) {
    std::vector<std::int8_t> levels(std::size_t{1} << bits);
    for (std::size_t k = 0; k < levels.size(); ++k) {
      levels[k] = static_cast<std::int8_t>(-127 + static_cast<int>(254 * k / (levels.size() - 1)));
    }
    const std::vector<float> scale(kRows, 0.01f);
    std::vector<std::uint8_t> codes(kRows * row_bytes(kColumns, bits));
    for (int i = 0; i < kMatrices; ++i) {
      for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random_word());
      const PackedBand band{bits, kRows, levels, scale, codes};
      matrices.emplace_back(kernels, kColumns, std::span(&band, 1), pool);
    }
  }

  double pass(const ActivationsView& x, std::vector<float>& out, ThreadPool& pool) const {
    const double start = now();
    for (const Matrix& matrix : matrices) matrix.product(x, out.data(), kRows, pool);
    return now() - start;
  }
};

void report(const char* what, std::vector<double>& times, double bytes) {
  std::sort(times.begin(), times.end());
  std::printf("  %s least %.3f median %.3f ms (%4.1f GB/s)", what, times.front(), times[times.size() / 2],
              bytes / times.front() / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels& kernels = choose_kernels(argc > 1 ? argv[1] : "");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  const int n = argc > 3 ? std::atoi(argv[3]) : 1;
  ThreadPool pool(1);
  std::vector<std::unique_ptr<Model>> models;
  const double start = now();
  for (const int bits : kWidths) models.push_back(std::make_unique<Model>(kernels, bits, pool));
  std::printf("%s, %d vectors; built in %.0f ms\n", kernels.name, n, now() - start);

  std::vector<float> input(static_cast<std::size_t>(n) * kColumns);
  for (float& x : input) x = static_cast<float>(static_cast<double>(random_word() % 2001) / 1000.0 - 1.0);
  Activations x;
  x.quantize(kernels.int8, input.data(), {kColumns, n, kColumns});
  std::vector<float> out(static_cast<std::size_t>(n) * kRows);

  Block other(kEvicted);
  std::fill_n(other.as<std::uint8_t>(), other.size(), std::uint8_t{1});
  std::uint64_t sink = 0;
  std::vector<double> reads;
  std::vector<std::vector<double>> hot(models.size()), evicted(models.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t m = 0; m < models.size(); ++m) {
      for (int i = 0; i < 3; ++i) models[m]->pass(x.view(), out, pool);
      for (int i = 0; i < 8; ++i) hot[m].push_back(models[m]->pass(x.view(), out, pool));
      const double before = now();
      sink ^= kernels.read(other.as<std::uint64_t>(), static_cast<std::ptrdiff_t>(other.size() / 8));
      reads.push_back(now() - before);
      evicted[m].push_back(models[m]->pass(x.view(), out, pool));
    }
  }
  std::sort(reads.begin(), reads.end());
  std::printf("read bandwidth %.1f GB/s at best, %.1f at the median (%u)\n",
              static_cast<double>(kEvicted) / reads.front() / 1e6,
              static_cast<double>(kEvicted) / reads[reads.size() / 2] / 1e6, static_cast<unsigned>(sink & 1));
  for (std::size_t m = 0; m < models.size(); ++m) {
    double bytes = 0;
    for (const Matrix& matrix : models[m]->matrices) bytes += static_cast<double>(matrix.tile_bytes());
    std::printf("%d bits", models[m]->bits);
    report("hot:", hot[m], bytes);
    report("  evicted:", evicted[m], bytes);
    std::printf("\n");
  }
  return 0;
}
