// The boundary: arrays that come in are checked for type, shape and order, and arrays that go out are NumPy's.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace sottovoce::python {

namespace nb = nanobind;

template <class T>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<T, float>) return "float32";
  else if constexpr (std::is_same_v<T, std::int8_t>) return "int8";
  else if constexpr (std::is_same_v<T, std::uint8_t>) return "uint8";
  else return "int64";
}

// A C-contiguous array of T with the dimensions that were asked for; it keeps the Python object alive.
template <class T>
class Input {
 public:
  // shape: the expected size of each dimension, -1 for any. Throws std::invalid_argument, one line.
  Input(nb::handle object, const char* name, std::initializer_list<long long> shape) {
    const std::string expected = std::string(name) + ": expected a C-contiguous " + type_name<T>() +
                                 " array of shape " + text(shape) + ", found ";
    if (!nb::try_cast(object, array_)) throw std::invalid_argument(expected + "no array");
    if (array_.dtype() != nb::dtype<T>()) throw std::invalid_argument(expected + "another type");
    if (array_.device_type() != nb::device::cpu::value) throw std::invalid_argument(expected + "another device");
    bool fits = array_.ndim() == shape.size();
    std::size_t d = 0;
    for (const long long size : shape) {
      if (!fits) break;
      const auto found = static_cast<long long>(array_.shape(d++));
      fits = (size < 0 || found == size) && found <= std::numeric_limits<int>::max();
    }
    if (!fits) throw std::invalid_argument(expected + "shape " + found_shape());
    long long step = 1;
    for (std::size_t k = array_.size() > 0 ? array_.ndim() : 0; k-- > 0;) {
      if (array_.shape(k) > 1 && array_.stride(k) != step) throw std::invalid_argument(expected + "another order");
      step *= static_cast<long long>(array_.shape(k));
    }
  }

  const T* data() const { return static_cast<const T*>(array_.data()); }
  std::size_t size() const { return array_.size(); }
  int extent(std::size_t dimension) const { return static_cast<int>(array_.shape(dimension)); }
  std::span<const T> span() const { return {data(), size()}; }

 private:
  static std::string text(std::initializer_list<long long> shape) {
    std::string out = "(";
    for (const long long size : shape) out += (out.size() > 1 ? ", " : "") + (size < 0 ? "*" : std::to_string(size));
    return out + ")";
  }

  std::string found_shape() const {
    std::string out = "(";
    for (std::size_t d = 0; d < array_.ndim(); ++d) out += (d > 0 ? ", " : "") + std::to_string(array_.shape(d));
    return out + ")";
  }

  nb::ndarray<nb::ro> array_;
};

// A new NumPy array; its contents are undefined until they are written through data().
template <class T>
class Output {
 public:
  explicit Output(std::initializer_list<std::size_t> shape) : shape_(shape) {
    std::size_t count = 1;
    for (const std::size_t size : shape) count *= size;
    data_ = new T[count > 0 ? count : 1];
    owner_ = nb::capsule(data_, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  }

  T* data() const { return data_; }
  nb::ndarray<nb::numpy, T> array() const { return {data_, shape_.size(), shape_.data(), owner_}; }

 private:
  std::vector<std::size_t> shape_;
  T* data_;
  nb::capsule owner_;
};

}  // namespace sottovoce::python
