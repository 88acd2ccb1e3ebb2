# What is installed starts by the libraries that came along, all but those of glibc.
set(prefix ${BINARY_DIR}/install_test)
file(REMOVE_RECURSE ${prefix})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${prefix}
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${prefix}/bin/sginfo sgformer_nano OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ldd ${prefix}/bin/sginfo OUTPUT_VARIABLE libraries
  COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[^\n]*(linux-vdso|ld-linux|/lib(c|m|dl|rt|pthread)\\.so|${prefix}/)[^\n]*\n"
  "" others "${libraries}")
if(others)
  message(FATAL_ERROR "these libraries do not come along:\n${others}")
endif()
file(REMOVE_RECURSE ${prefix})
