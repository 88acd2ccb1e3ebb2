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
# libavif is opened by a program that needs it, so ldd does not see it.
foreach(name libavif libdav1d)
  file(GLOB found ${prefix}/lib/${name}.so.*)
  if(NOT found)
    message(FATAL_ERROR "${name} does not come along")
  endif()
  foreach(file IN LISTS found)
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "${file} is a link to nothing")
    endif()
  endforeach()
endforeach()
file(REMOVE_RECURSE ${prefix})
