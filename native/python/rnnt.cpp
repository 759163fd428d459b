// sottovoce._native.Rnnt: a network that reads its tensors through a Python object, and whose state is NumPy's.
#include "rnnt.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "cpu.hpp"
#include "inputs.hpp"

namespace sottovoce::python {
namespace {

using FloatArray = nb::ndarray<nb::numpy, float>;
using PoolPtr = std::shared_ptr<ThreadPool>;

// matrix(name, rows, columns) -> bands, floats(name, count) -> (count,), finished(name). What it raises goes through.
class PythonSource : public TensorSource {
 public:
  explicit PythonSource(nb::handle reader) : reader_(reader) {}

  PackedTensor matrix(const std::string& name, int rows, int columns) const override {
    const nb::gil_scoped_acquire held;
    const nb::object found = reader_.attr("matrix")(name, rows, columns);
    nb::list list;
    if (!nb::try_cast(found, list)) throw std::invalid_argument(name + ": expected a list of bands");
    const std::shared_ptr<const Bands> bands(new Bands(columns, list), [](const Bands* p) {
      const nb::gil_scoped_acquire held_again;
      delete p;
    });
    return {{bands->view().begin(), bands->view().end()}, bands};
  }

  std::vector<float> floats(const std::string& name, int count) const override {
    const nb::gil_scoped_acquire held;
    const nb::object found = reader_.attr("floats")(name, count);
    const Input<float> values(found, name.c_str(), {count});
    return {values.span().begin(), values.span().end()};
  }

  void finished(const std::string& name) const override {
    const nb::gil_scoped_acquire held;
    reader_.attr("finished")(name);
  }

 private:
  nb::handle reader_;
};

RnntArchitecture architecture_of(nb::handle object) {
  const auto size = [&](const char* name) { return nb::cast<int>(object.attr(name)); };
  RnntArchitecture a{size("features"),
                     size("vocabulary"),
                     size("stack"),
                     size("stride"),
                     size("encoder_layers"),
                     size("encoder_units"),
                     nb::cast<bool>(object.attr("layer_norm")),
                     size("reduction"),
                     size("reduction_after"),
                     size("embedding"),
                     size("predictor_layers"),
                     size("predictor_units"),
                     size("joiner_units"),
                     {}};
  const nb::object pcen = object.attr("pcen");
  if (!pcen.is_none()) {
    const auto number = [&](const char* name) { return nb::cast<double>(pcen.attr(name)); };
    a.pcen = Pcen{number("smoothing"), number("gain"), number("bias")};
  }
  return a;
}

// Copies of a state's h and c that a step may overwrite.
class Lstms {
 public:
  // Items first, first + 1, ... of a state: h and c of each layer, (n, units).
  Lstms(const nb::tuple& state, std::size_t first, int layers, int n, int units) {
    for (int i = 0; i < layers; ++i) {
      const std::string name = "state of layer " + std::to_string(i);
      float* h = add(state[first + 2 * extent(i)], name + ".h", n, units);
      float* c = add(state[first + 2 * extent(i) + 1], name + ".c", n, units);
      layers_.push_back({h, c});
    }
  }

  std::span<const LstmState> view() const { return layers_; }

  void append_to(nb::list& list) const {
    for (const Output<float>& array : arrays_) list.append(array.array());
  }

 private:
  float* add(nb::handle object, const std::string& name, int n, int units) {
    const Input<float> before(object, name.c_str(), {n, units});
    arrays_.emplace_back(std::initializer_list<std::size_t>{extent(n), extent(units)});
    std::copy(before.span().begin(), before.span().end(), arrays_.back().data());
    return arrays_.back().data();
  }

  std::vector<Output<float>> arrays_;
  std::vector<LstmState> layers_;
};

void expect_items(const nb::tuple& state, int expected) {
  if (state.size() != extent(expected)) {
    throw std::invalid_argument("state: expected " + std::to_string(expected) + " arrays, found " +
                                std::to_string(state.size()));
  }
}

struct PyRnnt {
  std::shared_ptr<const Rnnt> network;
  PoolPtr pool;

  static PyRnnt make(nb::handle architecture, nb::handle reader, const std::string& kernel, PoolPtr pool,
                     const std::string& arithmetic) {
    const Kernels& kernels = choose_kernels(kernel);
    const ArithmeticOf rules = arithmetic_of(arithmetic);
    const RnntArchitecture sizes = architecture_of(architecture);
    if (!pool) pool = std::make_shared<ThreadPool>(1);
    const PythonSource source(reader);
    const nb::gil_scoped_release released;
    return {std::make_shared<const Rnnt>(sizes, source, kernels, *pool, rules), pool};
  }

  std::tuple<FloatArray, nb::tuple> encoder_step(nb::handle features_object, const nb::tuple& state) const {
    const RnntArchitecture& a = network->architecture();
    expect_items(state, 3 + 2 * a.encoder_layers);
    const Input<float> features(features_object, "features", {-1, -1, a.features});
    const int n = features.extent(0), frames = features.extent(1);
    const Input<float> mean_before(state[0], "state.mean", {n, a.pcen ? a.features : 0});
    const Input<float> history(state[1], "state.history", {n, -1, a.features});
    const Input<float> waiting(state[2], "state.waiting", {n, -1, a.encoder_units});
    const Lstms layers(state, 3, a.encoder_layers, n, a.encoder_units);
    const EncoderCounts after = network->counts(frames, history.extent(1), waiting.extent(1));
    const Output<float> mean({extent(n), extent(a.pcen ? a.features : 0)});
    std::copy(mean_before.span().begin(), mean_before.span().end(), mean.data());
    const Output<float> history_after({extent(n), extent(after.history), extent(a.features)});
    const Output<float> waiting_after({extent(n), extent(after.waiting), extent(a.encoder_units)});
    const Output<float> out({extent(n), extent(after.frames), extent(a.joiner_units)});
    {
      const nb::gil_scoped_release released;
      const EncoderState before{mean.data(),    history.data(),    history.extent(1),
                                waiting.data(), waiting.extent(1), layers.view()};
      network->encoder_step(features.data(), n, frames, before,
                            {out.data(), history_after.data(), waiting_after.data()}, workspace(), *pool);
    }
    nb::list arrays;
    arrays.append(mean.array());
    arrays.append(history_after.array());
    arrays.append(waiting_after.array());
    layers.append_to(arrays);
    return {out.array(), nb::tuple(arrays)};
  }

  std::tuple<FloatArray, nb::tuple> predictor_step(nb::handle tokens_object, const nb::tuple& state) const {
    const RnntArchitecture& a = network->architecture();
    expect_items(state, 2 * a.predictor_layers);
    const Input<std::int64_t> tokens(tokens_object, "tokens", {-1});
    const int n = tokens.extent(0);
    const Lstms layers(state, 0, a.predictor_layers, n, a.predictor_units);
    const Output<float> out({extent(n), extent(a.joiner_units)});
    {
      const nb::gil_scoped_release released;
      network->predictor_step(tokens.data(), n, layers.view(), out.data(), workspace(), *pool);
    }
    nb::list arrays;
    layers.append_to(arrays);
    return {out.array(), nb::tuple(arrays)};
  }

  FloatArray joiner(nb::handle encoder_object, nb::handle predictor_object) const {
    const Joiner& joiner = network->joiner();
    const Input<float> encoder(encoder_object, "encoder", {-1, joiner.units()});
    const int n = encoder.extent(0);
    const Input<float> predictor(predictor_object, "predictor", {n, joiner.units()});
    const Output<float> out({extent(n), extent(joiner.vocabulary())});
    {
      const nb::gil_scoped_release released;
      joiner.log_probabilities(encoder.data(), predictor.data(), n, out.data(), workspace(), *pool);
    }
    return out.array();
  }

  std::tuple<std::size_t, std::size_t, std::size_t> streamed_bytes() const {
    const StreamedBytes bytes = network->streamed_bytes();
    return {bytes.encoder, bytes.predictor, bytes.joiner};
  }
};

}  // namespace

void bind_rnnt(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<PyRnnt>(m, "Rnnt")
      .def(nb::new_(&PyRnnt::make), "architecture"_a, "reader"_a, "kernel"_a = "", "threads"_a = nb::none(),
           "arithmetic"_a = "int8")
      .def_prop_ro("kernel", [](const PyRnnt& self) { return std::string(self.network->kernels().name); })
      .def_prop_ro("streamed_bytes", &PyRnnt::streamed_bytes)
      .def("encoder_step", &PyRnnt::encoder_step, "features"_a, "state"_a)
      .def("predictor_step", &PyRnnt::predictor_step, "tokens"_a, "state"_a)
      .def("joiner", &PyRnnt::joiner, "encoder"_a, "predictor"_a);
}

}  // namespace sottovoce::python
