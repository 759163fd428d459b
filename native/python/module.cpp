// sottovoce._native: the kernels in Python's clothes. Sizes and types are checked here; the work is the library's, and
// the interpreter's lock is released while it runs.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "cpu.hpp"
#include "inputs.hpp"
#include "layers.hpp"
#include "matrix.hpp"

namespace sottovoce::python {
namespace {

using FloatArray = nb::ndarray<nb::numpy, float>;
using PoolPtr = std::shared_ptr<ThreadPool>;

// A matrix with the threads that work on it.
struct PyMatrix {
  std::shared_ptr<const Matrix> matrix;
  PoolPtr pool;

  static PyMatrix make(int columns, const nb::list& list, const std::string& kernel, PoolPtr pool) {
    const Kernels& kernels = choose_kernels(kernel);
    const Bands bands(columns, list);
    if (!pool) pool = std::make_shared<ThreadPool>(1);
    const nb::gil_scoped_release released;
    return {std::make_shared<const Matrix>(kernels, columns, bands.view(), *pool), pool};
  }

  FloatArray product(nb::handle object) const {
    const Input<float> x(object, "x", {-1, matrix->columns()});
    const int n = x.extent(0);
    const Output<float> out({extent(n), extent(matrix->rows())});
    {
      const nb::gil_scoped_release released;
      Workspace& space = workspace();
      space.activations.quantize(matrix->kernels().int8, x.data(), {matrix->columns(), n, matrix->columns()});
      matrix->product(space.activations.view(), out.data(), matrix->rows(), *pool);
    }
    return out.array();
  }

  FloatArray integer_product(nb::handle q_object, nb::handle scale_object) const {
    const Input<std::int8_t> q(q_object, "q", {-1, matrix->columns()});
    const int n = q.extent(0);
    const Input<float> scale(scale_object, "scale", {n, 1});
    if (std::find(q.span().begin(), q.span().end(), -128) != q.span().end()) {
      throw std::invalid_argument("q: expected values from -127 to 127, found -128");
    }
    const Output<float> out({extent(n), extent(matrix->rows())});
    {
      const nb::gil_scoped_release released;
      Workspace& space = workspace();
      space.activations.assign(q.data(), scale.data(), n, matrix->columns());
      matrix->product(space.activations.view(), out.data(), matrix->rows(), *pool);
    }
    return out.array();
  }
};

std::vector<float> copied(const Input<float>& input) { return {input.span().begin(), input.span().end()}; }

struct PyDense {
  Dense dense;
  PoolPtr pool;

  static PyDense make(const PyMatrix& weight, nb::handle bias, const std::string& arithmetic) {
    const Input<float> values(bias, "bias", {weight.matrix->rows()});
    return {Dense(weight.matrix, copied(values), arithmetic_of(arithmetic)), weight.pool};
  }

  FloatArray run(nb::handle object) const {
    const Input<float> x(object, "x", {-1, dense.inputs()});
    const Output<float> out({extent(x.extent(0)), extent(dense.outputs())});
    {
      const nb::gil_scoped_release released;
      dense.run(x.data(), x.extent(0), out.data(), workspace(), *pool);
    }
    return out.array();
  }

  FloatArray log_softmax_at(nb::handle object, nb::handle rows_object, nb::handle columns_object) const;
};

// Throws std::invalid_argument unless rows rise within (n,) and columns are those of the layer.
void check_entries(const Input<std::int64_t>& rows, const Input<std::int64_t>& columns, int n, int width) {
  std::int64_t before = 0;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const std::int64_t row = rows.data()[k], column = columns.data()[k];
    if (row < before || row >= n) throw std::invalid_argument("rows: expected rising numbers of rows of x");
    if (column < 0 || column >= width) throw std::invalid_argument("columns: expected numbers of outputs");
    before = row;
  }
}

FloatArray PyDense::log_softmax_at(nb::handle object, nb::handle rows_object, nb::handle columns_object) const {
  const Input<float> x(object, "x", {-1, dense.inputs()});
  const Input<std::int64_t> rows(rows_object, "rows", {-1});
  const Input<std::int64_t> columns(columns_object, "columns", {rows.extent(0)});
  check_entries(rows, columns, x.extent(0), dense.outputs());
  const Output<float> out({rows.size()});
  {
    const nb::gil_scoped_release released;
    dense.log_softmax_at(x.data(), x.extent(0), rows.data(), columns.data(), static_cast<std::ptrdiff_t>(rows.size()),
                         out.data(), workspace(), *pool);
  }
  return out.array();
}

struct PyLstm {
  LstmLayer layer;
  PoolPtr pool;

  static PyLstm make(const PyMatrix& input, const PyMatrix& recurrent, nb::handle bias, const std::string& arithmetic) {
    const Input<float> values(bias, "bias", {-1});
    return {LstmLayer(input.matrix, recurrent.matrix, copied(values), arithmetic_of(arithmetic)), recurrent.pool};
  }

  // A state that the layer may overwrite.
  Output<float> state(nb::handle object, const char* name, int n) const {
    const Input<float> before(object, name, {n, layer.units()});
    Output<float> after({extent(n), extent(layer.units())});
    std::copy(before.span().begin(), before.span().end(), after.data());
    return after;
  }

  FloatArray project(nb::handle object) const {
    const Input<float> x(object, "x", {-1, layer.inputs()});
    const int n = x.extent(0);
    const Output<float> out({extent(n), extent(4 * layer.units())});
    {
      const nb::gil_scoped_release released;
      layer.project(x.data(), n, out.data(), workspace(), *pool);
    }
    return out.array();
  }

  std::pair<FloatArray, FloatArray> step(nb::handle object, nb::handle h_object, nb::handle c_object) const {
    const Input<float> projected(object, "projected", {-1, 4LL * layer.units()});
    const int n = projected.extent(0);
    const Output<float> h = state(h_object, "h", n), c = state(c_object, "c", n);
    {
      const nb::gil_scoped_release released;
      layer.step(projected.data(), 4 * layer.units(), n, h.data(), c.data(), workspace(), *pool);
    }
    return {h.array(), c.array()};
  }

  std::tuple<FloatArray, FloatArray, FloatArray> run(nb::handle object, nb::handle h_object,
                                                     nb::handle c_object) const {
    const Input<float> x(object, "x", {-1, -1, layer.inputs()});
    const int n = x.extent(0), frames = x.extent(1);
    const Output<float> h = state(h_object, "h", n), c = state(c_object, "c", n);
    const Output<float> outputs({extent(n), extent(frames), extent(layer.units())});
    {
      const nb::gil_scoped_release released;
      layer.run(x.data(), n, frames, outputs.data(), h.data(), c.data(), workspace(), *pool);
    }
    return {outputs.array(), h.array(), c.array()};
  }
};

FloatArray embed(const Embedding& embedding, nb::handle object) {
  const Input<std::int64_t> tokens(object, "tokens", {-1});
  const Output<float> out({tokens.size(), extent(embedding.columns())});
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    embedding.row(tokens.data()[i], out.data() + i * extent(embedding.columns()));
  }
  return out.array();
}

struct PyJoiner {
  Joiner joiner;
  PoolPtr pool;

  static PyJoiner make(const PyDense& output) { return {Joiner(output.dense), output.pool}; }

  FloatArray log_probabilities(nb::handle encoder_object, nb::handle predictor_object) const {
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

  std::pair<nb::ndarray<nb::numpy, std::int64_t>, FloatArray> best(nb::handle encoder_object,
                                                                   nb::handle predictor_object) const {
    const Input<float> encoder(encoder_object, "encoder", {-1, joiner.units()});
    const int n = encoder.extent(0);
    const Input<float> predictor(predictor_object, "predictor", {n, joiner.units()});
    const Output<std::int64_t> tokens({extent(n)});
    const Output<float> log_probability({extent(n)});
    {
      const nb::gil_scoped_release released;
      joiner.best(encoder.data(), predictor.data(), n, tokens.data(), log_probability.data(), workspace(), *pool);
    }
    return {tokens.array(), log_probability.array()};
  }
};

std::tuple<nb::ndarray<nb::numpy, std::int8_t>, FloatArray> quantize(nb::handle object, const std::string& kernel,
                                                                  const std::string& arithmetic) {
  const Arithmetic& rules = choose_kernels(kernel).*arithmetic_of(arithmetic);
  const Input<float> x(object, "x", {-1, -1});
  const std::size_t n = extent(x.extent(0)), columns = extent(x.extent(1));
  if (columns == 0) throw std::invalid_argument("x: expected at least one column, found none");
  const Output<std::int8_t> q({n, columns});
  const Output<float> scale({n, 1});
  std::vector<std::uint8_t> magnitude(columns);
  for (std::size_t i = 0; i < n; ++i) {
    std::int32_t sum = 0;
    const auto size = static_cast<std::ptrdiff_t>(columns);
    rules.quantize(x.data() + i * columns, size, size, q.data() + i * columns, magnitude.data(), scale.data() + i,
                   &sum);
  }
  return {q.array(), scale.array()};
}

// Binds one of the elementwise functions of kernels or of an arithmetic, as a function of an array of one dimension.
template <auto Member, class Functions>
FloatArray apply(const Functions& functions, nb::handle object) {
  const Input<float> x(object, "x", {-1});
  const Output<float> y({x.size()});
  (functions.*Member)(x.data(), y.data(), static_cast<std::ptrdiff_t>(x.size()));
  return y.array();
}

template <auto Member>
FloatArray elementwise(nb::handle object, const std::string& kernel) {
  return apply<Member>(choose_kernels(kernel), object);
}

template <auto Member>
FloatArray gate(nb::handle object, const std::string& kernel, const std::string& arithmetic) {
  return apply<Member>(choose_kernels(kernel).*arithmetic_of(arithmetic), object);
}

FloatArray log_softmax(nb::handle object, const std::string& kernel) {
  const Kernels& kernels = choose_kernels(kernel);
  const Input<float> x(object, "x", {-1, -1});
  const std::size_t n = extent(x.extent(0)), columns = extent(x.extent(1));
  if (columns == 0) throw std::invalid_argument("x: expected at least one column, found none");
  const Output<float> y({n, columns});
  for (std::size_t i = 0; i < n; ++i) {
    kernels.log_softmax(x.data() + i * columns, y.data() + i * columns, static_cast<std::ptrdiff_t>(columns));
  }
  return y.array();
}

FloatArray layer_norm(nb::handle object, nb::handle weight_object, nb::handle bias_object, double eps,
                      const std::string& kernel) {
  const Kernels& kernels = choose_kernels(kernel);
  const Input<float> x(object, "x", {-1, -1});
  const std::size_t n = extent(x.extent(0)), columns = extent(x.extent(1));
  if (columns == 0) throw std::invalid_argument("x: expected at least one column, found none");
  const Input<float> weight(weight_object, "weight", {x.extent(1)}), bias(bias_object, "bias", {x.extent(1)});
  const Output<float> y({n, columns});
  for (std::size_t i = 0; i < n; ++i) {
    kernels.layer_norm(x.data() + i * columns, weight.data(), bias.data(), eps, y.data() + i * columns,
                       static_cast<std::ptrdiff_t>(columns));
  }
  return y.array();
}

std::int64_t read(nb::handle object, const std::string& kernel) {
  const Input<std::int64_t> words(object, "words", {-1});
  const Kernels& kernels = choose_kernels(kernel);
  const nb::gil_scoped_release released;
  const auto* data = reinterpret_cast<const std::uint64_t*>(words.data());
  return static_cast<std::int64_t>(kernels.read(data, static_cast<std::ptrdiff_t>(words.size())));
}

nb::list features() {
  nb::list out;
  for (const CpuFeature& feature : cpu_features()) out.append(nb::make_tuple(std::string(feature.name), feature.found));
  return out;
}

nb::list paths() {
  nb::list out;
  for (const KernelPath& path : kernel_paths()) out.append(nb::make_tuple(std::string(path.name), path.available));
  return out;
}

}  // namespace

NB_MODULE(_native, m) {
  using namespace nb::literals;
  nb::set_leak_warnings(false);  // objects in a module's globals outlive the interpreter; that is no leak
  m.def("cpu_features", features);
  m.def("kernel_paths", paths);
  m.def("kernel_name", [] { return std::string(choose_kernels().name); });
  nb::class_<ThreadPool>(m, "Threads").def(nb::init<int>(), "threads"_a).def_prop_ro("size", &ThreadPool::size);
  nb::class_<PyMatrix>(m, "Matrix")
      .def(nb::new_(&PyMatrix::make), "columns"_a, "bands"_a, "kernel"_a = "", "threads"_a = nb::none())
      .def_prop_ro("rows", [](const PyMatrix& self) { return self.matrix->rows(); })
      .def_prop_ro("columns", [](const PyMatrix& self) { return self.matrix->columns(); })
      .def_prop_ro("kernel", [](const PyMatrix& self) { return std::string(self.matrix->kernels().name); })
      .def_prop_ro("tile_bytes", [](const PyMatrix& self) { return self.matrix->tile_bytes(); })
      .def("product", &PyMatrix::product, "x"_a)
      .def("integer_product", &PyMatrix::integer_product, "q"_a, "scale"_a);
  nb::class_<PyDense>(m, "Dense")
      .def(nb::new_(&PyDense::make), "weight"_a, "bias"_a, "arithmetic"_a = "int8")
      .def("__call__", &PyDense::run, "x"_a)
      .def("log_softmax_at", &PyDense::log_softmax_at, "x"_a, "rows"_a, "columns"_a);
  nb::class_<PyLstm>(m, "LstmLayer")
      .def(nb::new_(&PyLstm::make), "input_weight"_a, "recurrent_weight"_a, "bias"_a,
           "arithmetic"_a = "int8")
      .def_prop_ro("units", [](const PyLstm& self) { return self.layer.units(); })
      .def("project", &PyLstm::project, "x"_a)
      .def("step", &PyLstm::step, "projected"_a, "h"_a, "c"_a)
      .def("__call__", &PyLstm::run, "x"_a, "h"_a, "c"_a);
  nb::class_<Embedding>(m, "EmbeddingRows")
      .def(nb::new_([](int columns, const nb::list& list) {
             const Bands bands(columns, list);
             return Embedding(columns, bands.view());
           }),
           "columns"_a, "bands"_a)
      .def("__call__", embed, "tokens"_a);
  nb::class_<PyJoiner>(m, "Joiner")
      .def(nb::new_(&PyJoiner::make), "output"_a)
      .def("log_probabilities", &PyJoiner::log_probabilities, "encoder"_a, "predictor"_a)
      .def("best", &PyJoiner::best, "encoder"_a, "predictor"_a);
  bind_rnnt(m);
  m.def("read", read, "words"_a, "kernel"_a = "");
  m.def("quantize_activations", quantize, "x"_a, "kernel"_a = "", "arithmetic"_a = "int8");
  m.def("exp", elementwise<&Kernels::exp>, "x"_a, "kernel"_a = "");
  m.def("log", elementwise<&Kernels::log>, "x"_a, "kernel"_a = "");
  m.def("tanh", gate<&Arithmetic::tanh>, "x"_a, "kernel"_a = "", "arithmetic"_a = "int8");
  m.def("sigmoid", gate<&Arithmetic::sigmoid>, "x"_a, "kernel"_a = "", "arithmetic"_a = "int8");
  m.def("log_softmax", log_softmax, "x"_a, "kernel"_a = "");
  m.def("layer_norm", layer_norm, "x"_a, "weight"_a, "bias"_a, "eps"_a = 1e-5, "kernel"_a = "");
}

}  // namespace sottovoce::python
