// A packed RNN-T out of a model file, as searches and streams want it: state by stream, in vectors.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "decoding/transducer.hpp"
#include "file/model_file.hpp"
#include "rnnt.hpp"
#include "threads.hpp"

namespace sottovoce {

// What an encoder carries from chunk to chunk for one stream; see EncoderState.
struct EncoderMemory {
  std::vector<float> mean, history, waiting;  // (features or 0,), (L, features), (R, encoder_units)
  std::vector<float> layers;                  // (encoder_layers, 2, encoder_units): h and c
};

class Network : public Transducer {
 public:
  // kernels: the name of a path, or empty. Throws Error, or std::invalid_argument, naming what cannot be used.
  Network(const ModelFile& file, const std::string& kernels, int threads);

  const RnntArchitecture& architecture() const { return rnnt_.architecture(); }

  EncoderMemory encoder_start() const;

  // features (n, frames, features) -> encoder frames (n, count, joiner_units); returns count. The n memories must have
  // equally much left over.
  int encoder_step(const float* features, int frames, std::span<EncoderMemory* const> memories,
                   std::vector<float>& output);

  int vocabulary() const override { return architecture().vocabulary; }
  int joiner_units() const override { return architecture().joiner_units; }
  std::size_t predictor_floats() const override;
  void predictor_step(const std::int64_t* tokens, int n, float* state, float* output) override;
  void joiner(const float* encoder, const float* predictor, int n, float* log_probs) override;

 private:
  ThreadPool pool_;
  Workspace space_;
  Rnnt rnnt_;
};

}  // namespace sottovoce
