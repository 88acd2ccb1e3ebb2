#include "core/library.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"

using namespace sg;

namespace {

std::string message(const LibraryName& name) {
  try {
    const Library library(name);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::usage);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("library: one that is missing is named, with where it was sought and what to do") {
  const std::string found = message({"libnowhere.so.13", "thinking", {"/no/folder"}, "buy it"});
  CHECK(found.starts_with(
      "thinking needs the library libnowhere.so.13, which could not be opened; buy it. Tried:\n"));
  CHECK(found.find("\n  libnowhere.so.13: ") != std::string::npos);
  CHECK(found.find("\n  /no/folder/libnowhere.so.13: ") != std::string::npos);
}

TEST_CASE("library: functions are found, in a folder too; absent ones are named") {
  const Library library({"libm.so.6", "", {}, ""});
  CHECK(library.path() == "libm.so.6");
  CHECK(library.function<double(double)>("cbrt")(27.0) == doctest::Approx(3));
  CHECK_THROWS_WITH_AS(library.function<void()>("no_such_function"),
                       "the library libm.so.6 has no function no_such_function: it is too old; "
                       "install a newer one",
                       Error);
}
