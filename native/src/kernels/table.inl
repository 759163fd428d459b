// The path's Kernels, from the functions that the other .inl files and the path itself define in its unnamed namespace.

Kernels make_kernels(const char* name, Layout layout) {
  return Kernels{name,     layout,      kLevelOffset, make_tables, product,     quantize,           exp_all,   log_all,
                 tanh_all, sigmoid_all, add_all,      layer_norm,  log_softmax, log_softmax_argmax, lstm_cell, read};
}
