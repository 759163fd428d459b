#include "network.hpp"

#include <algorithm>

#include "cpu.hpp"
#include "file/architecture.hpp"

namespace sottovoce {
namespace {

class FileSource : public TensorSource {
 public:
  explicit FileSource(const ModelFile& file) : file_(file) {}

  PackedTensor matrix(const std::string& name, int rows, int columns) const override {
    const FileMatrix* found = file_.matrix(name);
    if (!found && file_.array(name)) throw NotPacked(name);
    const std::vector<std::int64_t> shape = {rows, columns};
    if (!found) {
      throw Error(name + ": expected a tensor of shape " + describe_shape(shape) + ", found none of that name");
    }
    if (found->shape != shape) {
      throw Error(name + ": expected shape " + describe_shape(shape) + ", found " + describe_shape(found->shape));
    }
    return {found->views(), nullptr};
  }

  std::vector<float> floats(const std::string& name, int count) const override { return file_.floats(name, {count}); }

  void finished(const std::string& name) const override { file_.forget(*file_.matrix(name)); }

 private:
  const ModelFile& file_;
};

// Rows of `width` floats, one for each of n states -> one array (n, width) for each of `parts` parts, and back.
std::vector<float> gather(const float* rows, int n, std::size_t parts, std::size_t width) {
  std::vector<float> out(static_cast<std::size_t>(n) * parts * width);
  float* to = out.data();
  for (std::size_t part = 0; part < parts; ++part) {
    for (int i = 0; i < n; ++i, to += width) {
      std::copy_n(rows + (static_cast<std::size_t>(i) * parts + part) * width, width, to);
    }
  }
  return out;
}

void scatter(const std::vector<float>& parted, int n, std::size_t parts, std::size_t width, float* rows) {
  const float* from = parted.data();
  for (std::size_t part = 0; part < parts; ++part) {
    for (int i = 0; i < n; ++i, from += width) {
      std::copy_n(from, width, rows + (static_cast<std::size_t>(i) * parts + part) * width);
    }
  }
}

// h and c of each layer in what gather gives of (n, layers * 2, units).
std::vector<LstmState> layers_of(std::vector<float>& parted, int n, int layers, int units) {
  std::vector<LstmState> states;
  const std::size_t size = static_cast<std::size_t>(n) * static_cast<std::size_t>(units);
  for (int i = 0; i < layers; ++i) {
    float* h = parted.data() + 2 * static_cast<std::size_t>(i) * size;
    states.push_back({h, h + size});
  }
  return states;
}

std::vector<float> join(std::span<EncoderMemory* const> memories, std::vector<float> EncoderMemory::* member) {
  std::vector<float> joined;
  for (const EncoderMemory* memory : memories) {
    joined.insert(joined.end(), (memory->*member).begin(), (memory->*member).end());
  }
  return joined;
}

void share_out(const std::vector<float>& joined, std::span<EncoderMemory* const> memories,
               std::vector<float> EncoderMemory::* member) {
  const auto each = static_cast<std::ptrdiff_t>(joined.size() / memories.size());
  for (std::size_t i = 0; i < memories.size(); ++i) {
    const auto start = joined.begin() + static_cast<std::ptrdiff_t>(i) * each;
    (memories[i]->*member).assign(start, start + each);
  }
}

std::size_t size_of(int a, int b = 1, int c = 1) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b) * static_cast<std::size_t>(c);
}

}  // namespace

Network::Network(const ModelFile& file, const std::string& kernels, int threads)
    : pool_(threads),
      rnnt_(read_architecture(file.architecture()), FileSource(file), choose_kernels(kernels), pool_) {}

EncoderMemory Network::encoder_start() const {
  const RnntArchitecture& a = architecture();
  EncoderMemory memory;
  if (a.pcen) memory.mean.assign(size_of(a.features), Pcen::kStart);
  memory.history.assign(size_of(a.stack - a.stride, a.features), 0.0f);
  memory.layers.assign(size_of(a.encoder_layers, 2, a.encoder_units), 0.0f);
  return memory;
}

int Network::encoder_step(const float* features, int frames, std::span<EncoderMemory* const> memories,
                          std::vector<float>& output) {
  const RnntArchitecture& a = architecture();
  const int n = static_cast<int>(memories.size());
  std::vector<float> mean = join(memories, &EncoderMemory::mean), history = join(memories, &EncoderMemory::history);
  std::vector<float> waiting = join(memories, &EncoderMemory::waiting), rows = join(memories, &EncoderMemory::layers);
  const std::size_t layers = size_of(a.encoder_layers, 2), units = size_of(a.encoder_units);
  std::vector<float> parted = gather(rows.data(), n, layers, units);
  const std::vector<LstmState> states = layers_of(parted, n, a.encoder_layers, a.encoder_units);

  const int history_frames = static_cast<int>(memories[0]->history.size() / size_of(a.features));
  const int waiting_frames = static_cast<int>(memories[0]->waiting.size() / units);
  const EncoderCounts after = rnnt_.counts(frames, history_frames, waiting_frames);
  std::vector<float> left(size_of(n, after.history, a.features)), held(size_of(n, after.waiting, a.encoder_units));
  output.resize(size_of(n, after.frames, a.joiner_units));
  const EncoderState state{mean.data(), history.data(), history_frames, waiting.data(), waiting_frames, states};
  rnnt_.encoder_step(features, n, frames, state, {output.data(), left.data(), held.data()}, space_, pool_);

  scatter(parted, n, layers, units, rows.data());
  share_out(mean, memories, &EncoderMemory::mean);
  share_out(left, memories, &EncoderMemory::history);
  share_out(held, memories, &EncoderMemory::waiting);
  share_out(rows, memories, &EncoderMemory::layers);
  return after.frames;
}

std::size_t Network::predictor_floats() const {
  return size_of(architecture().predictor_layers, 2, architecture().predictor_units);
}

void Network::predictor_step(const std::int64_t* tokens, int n, float* state, float* output) {
  const RnntArchitecture& a = architecture();
  const std::size_t layers = size_of(a.predictor_layers, 2), units = size_of(a.predictor_units);
  std::vector<float> parted = gather(state, n, layers, units);
  const std::vector<LstmState> states = layers_of(parted, n, a.predictor_layers, a.predictor_units);
  rnnt_.predictor_step(tokens, n, states, output, space_, pool_);
  scatter(parted, n, layers, units, state);
}

void Network::joiner(const float* encoder, const float* predictor, int n, float* log_probs) {
  rnnt_.joiner().log_probabilities(encoder, predictor, n, log_probs, space_, pool_);
}

}  // namespace sottovoce
