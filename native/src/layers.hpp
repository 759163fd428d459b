// Layers over packed matrices, bit-equal to sottovoce.runtime.layers. Each is made for one arithmetic of its matrices'
// kernels: a member of Kernels, such as &Kernels::int8.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "matrix.hpp"

namespace sottovoce {

// Memory that layers work in; one for each thread that calls them. It grows to what the largest call needed.
using ArithmeticOf = Arithmetic Kernels::*;

struct Workspace {
  Activations activations;
  Scratch<float> recurrent, projected, joined, totals;
};

// x W^T + b.
class Dense {
 public:
  // Throws std::invalid_argument on sizes.
  Dense(std::shared_ptr<const Matrix> weight, std::vector<float> bias, ArithmeticOf arithmetic = &Kernels::int8);

  int inputs() const { return weight_->columns(); }
  int outputs() const { return weight_->rows(); }
  const Kernels& kernels() const { return weight_->kernels(); }
  const Arithmetic& arithmetic() const { return *arithmetic_; }
  std::size_t tile_bytes() const { return weight_->tile_bytes(); }

  // x (n, inputs) -> out (n, outputs).
  void run(const float* x, int n, float* out, Workspace& space, ThreadPool& pool) const;

  // Of the log-softmax of run's result, entry columns[k] of row rows[k], (count,): rows rise, within (n,), and columns
  // are below outputs. Never more than some rows of that result are there at once.
  void log_softmax_at(const float* x, int n, const std::int64_t* rows, const std::int64_t* columns, std::ptrdiff_t count,
                      float* out, Workspace& space, ThreadPool& pool) const;

 private:
  const Arithmetic* arithmetic_;
  std::shared_ptr<const Matrix> weight_;
  std::vector<float> bias_;
};

// One LSTM layer, gates in the order i, f, g, o; bias (4 units,) is both of PyTorch's biases added.
class LstmLayer {
 public:
  // Throws std::invalid_argument on sizes.
  LstmLayer(std::shared_ptr<const Matrix> input, std::shared_ptr<const Matrix> recurrent, std::vector<float> bias, ArithmeticOf arithmetic = &Kernels::int8);

  int inputs() const { return input_->columns(); }
  int units() const { return recurrent_->columns(); }
  std::size_t input_bytes() const { return input_->tile_bytes(); }
  std::size_t recurrent_bytes() const { return recurrent_->tile_bytes(); }

  // The input product: x (n, inputs) -> projected (n, 4 units).
  void project(const float* x, int n, float* projected, Workspace& space, ThreadPool& pool) const;

  // One frame of n streams: projected (n, 4 units), `stride` floats apart; h and c (n, units) are overwritten.
  void step(const float* projected, std::ptrdiff_t stride, int n, float* h, float* c, Workspace& space,
            ThreadPool& pool) const;

  // A chunk: x (n, frames, inputs) -> outputs (n, frames, units); h and c (n, units) go from before to after. The
  // frames of all streams share a pass over the input weights, up to 128 of them at a time.
  void run(const float* x, int n, int frames, float* outputs, float* h, float* c, Workspace& space,
           ThreadPool& pool) const;

 private:
  const Arithmetic* arithmetic_;
  std::shared_ptr<const Matrix> input_, recurrent_;
  std::vector<float> bias_;
};

// Rows of a packed table, decoded when they are looked up: float32(scale) * float32(level).
class Embedding {
 public:
  // Copies codes, levels and scales. Throws std::invalid_argument as check_bands does.
  Embedding(int columns, std::span<const PackedBand> bands);

  int rows() const { return rows_; }
  int columns() const { return columns_; }

  // out (columns,); a negative id ("no history") gives zeros. Throws std::out_of_range for an id beyond the table.
  void row(std::int64_t id, float* out) const;

 private:
  struct Band {
    int first_row, rows, bits;
    float levels[256];
    std::vector<float> row_scale;
    std::vector<std::uint8_t> codes;  // and eight zero bytes, so that words can be read whole
  };

  int rows_ = 0, columns_;
  std::vector<Band> bands_;
};

// W tanh(encoder + predictor) + b, and what follows it.
class Joiner {
 public:
  explicit Joiner(Dense output) : output_(std::move(output)) {}

  int units() const { return output_.inputs(); }
  int vocabulary() const { return output_.outputs(); }

  // encoder, predictor (n, units) -> log-probabilities (n, vocabulary).
  void log_probabilities(const float* encoder, const float* predictor, int n, float* out, Workspace& space,
                         ThreadPool& pool) const;

  // The first token with the largest log-probability, (n,), and that log-probability, (n,).
  void best(const float* encoder, const float* predictor, int n, std::int64_t* tokens, float* log_probability,
            Workspace& space, ThreadPool& pool) const;

 private:
  void logits(const float* encoder, const float* predictor, int n, float* out, Workspace& space,
              ThreadPool& pool) const;

  Dense output_;
};

}  // namespace sottovoce
