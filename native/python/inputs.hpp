// What more than one file of the module needs: packed bands as Python gives them, and each thread's workspace.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "layers.hpp"
#include "matrix.hpp"

namespace sottovoce::python {

inline std::size_t extent(int size) { return static_cast<std::size_t>(size); }

inline Workspace& workspace() {
  thread_local Workspace space;
  return space;
}

// "int8" or "accelerator"; throws std::invalid_argument for another name.
inline ArithmeticOf arithmetic_of(const std::string& name) {
  if (name == "int8") return &Kernels::int8;
  if (name == "accelerator") return &Kernels::accelerator;
  throw std::invalid_argument("arithmetic: expected int8 or accelerator, found " + name);
}

// Bands as (bits, levels, row_scale, codes) tuples; the arrays stay alive as long as this does.
class Bands {
 public:
  Bands(int columns, const nb::list& list) {
    int k = 0;
    for (const nb::handle item : list) {
      const std::string name = "band " + std::to_string(k++);
      nb::tuple fields;
      int bits = 0;
      if (!nb::try_cast(item, fields) || fields.size() != 4 || !nb::try_cast(nb::handle(fields[0]), bits)) {
        throw std::invalid_argument(name + ": expected (bits, levels, row_scale, codes)");
      }
      levels_.emplace_back(fields[1], (name + ".levels").c_str(), std::initializer_list<long long>{-1});
      scales_.emplace_back(fields[2], (name + ".row_scale").c_str(), std::initializer_list<long long>{-1});
      codes_.emplace_back(fields[3], (name + ".codes").c_str(), std::initializer_list<long long>{-1, -1});
      bands_.push_back(
          {bits, codes_.back().extent(0), levels_.back().span(), scales_.back().span(), codes_.back().span()});
    }
    check_bands(columns, bands_);
  }

  std::span<const PackedBand> view() const { return bands_; }

 private:
  std::vector<Input<std::int8_t>> levels_;
  std::vector<Input<float>> scales_;
  std::vector<Input<std::uint8_t>> codes_;
  std::vector<PackedBand> bands_;
};

void bind_rnnt(nb::module_& m);

}  // namespace sottovoce::python
