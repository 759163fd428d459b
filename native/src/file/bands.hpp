// Reading and checking the bands of one matrix.
#pragma once

#include <string>

#include "file/model_file.hpp"

namespace sottovoce {

// The matrix that the metadata declare, its sizes checked against the tensors' own; scales are read, no code yet.
// Names of the tensors that it is made of are added to `parts`. Throws Error.
FileMatrix read_matrix(const Container& container, const std::string& name, const Json& entry,
                       std::vector<std::string>& parts);

// Throws Error unless levels increase, scales are finite and above zero, and codes have levels and clean padding.
void check_values(const std::string& name, const FileMatrix& matrix);

}  // namespace sottovoce
