// A packed RNN-T for a batch of streams, bit-equal to sottovoce.runtime.rnnt.PackedRnnt.
//
// A network is const once it is made, and any number of threads may use it, each with a workspace of its own. State
// lives outside, in arrays of the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layers.hpp"
#include "tensors.hpp"

namespace sottovoce {

// sottovoce.packed.Pcen.
struct Pcen {
  double smoothing, gain, bias;

  static constexpr float kFloor = 1e-6f;
  static constexpr float kStart = 1e-3f;  // the running mean before the first frame
};

// sottovoce.packed.RnntArchitecture.
struct RnntArchitecture {
  int features, vocabulary, stack, stride, encoder_layers, encoder_units;
  bool layer_norm;
  int reduction, reduction_after, embedding, predictor_layers, predictor_units, joiner_units;
  std::optional<Pcen> pcen;
  float blank_penalty = 0;  // of a search that is told of none

  // Throws std::invalid_argument, one line, for sizes that Python's class refuses.
  void check() const;

  // Feature frames for one encoder frame.
  int subsampling() const { return stride * (reduction_after > 0 ? reduction : 1); }
};

// h and c of one layer, (n, units) each; a step overwrites them.
struct LstmState {
  float* h;
  float* c;
};

// How many frames a chunk leaves over in front of the stack and of the reduction, and how many it completes.
struct EncoderCounts {
  int history, waiting, frames;
};

// An encoder's state before a chunk. A stream begins with kStart in mean, stack - stride frames of zeros as history,
// none waiting, and zeros in its layers.
struct EncoderState {
  float* mean;  // (n, features) with PCEN, overwritten; else not read
  const float* history;
  int history_frames;  // (n, history_frames, features)
  const float* waiting;
  int waiting_frames;                 // (n, waiting_frames, encoder_units)
  std::span<const LstmState> layers;  // (encoder_layers,)
};

// What a chunk gives, sized by `counts`: frames (n, counts.frames, joiner_units), history and waiting as above.
struct EncoderOutput {
  float *frames, *history, *waiting;
};

// Bytes of tiles that one encoder frame (decoded alone), one predictor step and one joiner read.
struct StreamedBytes {
  std::size_t encoder, predictor, joiner;
};

class Rnnt {
 public:
  // Tiles are made here, tensor by tensor. Throws std::invalid_argument that names the tensor, and what the source
  // throws.
  Rnnt(const RnntArchitecture& architecture, const TensorSource& source, const Kernels& kernels, ThreadPool& pool,
       ArithmeticOf arithmetic = &Kernels::int8);

  const RnntArchitecture& architecture() const { return architecture_; }
  const Kernels& kernels() const { return *kernels_; }
  StreamedBytes streamed_bytes() const;

  // What is left over after a chunk of that many feature frames. Throws std::invalid_argument for negative counts.
  EncoderCounts counts(int feature_frames, int history_frames, int waiting_frames) const;

  // A chunk of n streams: features (n, feature_frames, features). Any chunking gives the same frames.
  void encoder_step(const float* features, int n, int feature_frames, const EncoderState& state,
                    const EncoderOutput& output, Workspace& space, ThreadPool& pool) const;

  // tokens (n,), -1 for "no history" -> output (n, joiner_units); layers (predictor_layers,) are overwritten. Throws
  // std::out_of_range for an id beyond the vocabulary, before anything is written.
  void predictor_step(const std::int64_t* tokens, int n, std::span<const LstmState> layers, float* output,
                      Workspace& space, ThreadPool& pool) const;

  // log_probabilities and best of (n, joiner_units) vectors.
  const Joiner& joiner() const { return *joiner_; }

 private:
  struct Norm {
    std::vector<float> weight, bias;
  };

  void normalize(const float* features, int n, int frames, float* mean, float* out, std::ptrdiff_t out_stride) const;
  void pcen(float* x, float* mean) const;
  void norm(int layer, const float* x, std::ptrdiff_t vectors, float* y) const;

  RnntArchitecture architecture_;
  const Kernels* kernels_;
  std::vector<float> mean_, istd_;
  std::vector<LstmLayer> encoder_, predictor_;
  std::vector<Norm> norms_;
  std::optional<Dense> projection_, predictor_projection_;
  std::optional<Embedding> embedding_;
  std::optional<Joiner> joiner_;
  std::size_t joiner_bytes_ = 0;
};

}  // namespace sottovoce
