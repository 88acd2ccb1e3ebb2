// What kernels, compiled with -fsanitize=alignment, call where an address is no multiple of what is
// accessed there: a GPU stops there. In place of the sanitizer's library, so that the fault ends
// the launch and names the kernel.
#include <cstdint>

#include "core/error.h"
#include "tests/emulation/emulator.h"

namespace {

struct Place {
  const char* file;
  uint32_t line, column;
};
// As the compiler writes it.
struct Mismatch {
  Place at;
  const void* type;
  uint8_t log_alignment, access;
};

}  // namespace

extern "C" void __ubsan_handle_type_mismatch_v1_abort(const Mismatch* found, const void* address) {
  sg::emulation::fault_here(fmt::format("{}:{}: address {} is no multiple of {}", found->at.file,
                                        found->at.line, address, 1 << found->log_alignment)
                                .c_str());
}
