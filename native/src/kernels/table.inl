// The path's Kernels, from the functions that the other .inl files and the path itself define in its unnamed namespace.

Kernels make_kernels(const char* name, Layout layout) {
  const Arithmetic int8{quantize, tanh_all, sigmoid_all, lstm_cell};
  const Arithmetic accelerator{fixed_quantize, fixed_tanh_all, fixed_sigmoid_all, fixed_lstm_cell};
  return Kernels{name,        layout,             kLevelOffset, SOTTOVOCE_WIDEST_LOOKUP, SOTTOVOCE_SIGNS_APART,
                 make_tables, product,            int8,         accelerator,             exp_all,
                 log_all,     add_all,            layer_norm,   log_totals,              log_softmax,
                 log_softmax_argmax, read};
}
