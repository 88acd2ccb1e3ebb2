#include "core/text.h"

#include <doctest/doctest.h>

using namespace sg;

TEST_CASE("names of bytes are written as UTF-8, and come back") {
  CHECK(escape_name("caf\xe9") == "caf\\xe9");
  CHECK(escape_name("caf\xc3\xa9 \xe7\x8a\xac \xf0\x9f\x90\x95") ==
        "caf\xc3\xa9 \xe7\x8a\xac \xf0\x9f\x90\x95");
  CHECK(escape_name("a\\b\\xE9\\xg1") == "a\\b\\xE9\\xg1");
  CHECK(escape_name("caf\\xe9") == "caf\\x5cxe9");  // what looks like an escape is none
  // Too long a form, a surrogate, beyond the last character, cut short.
  CHECK(escape_name("\xc0\x80") == "\\xc0\\x80");
  CHECK(escape_name("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(escape_name("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(escape_name("\xe7\x8a") == "\\xe7\\x8a");
  for (const char* name :
       {"", "cat", "caf\xe9", "caf\\xe9", "\\\xe9", "\\x5", "\\x5\x8c", "\\\\x5c\\xff", "\xff\xfe"})
    CHECK(unescape_name(escape_name(name)) == name);
  // A message may hold names that are escaped already.
  CHECK(escape_odd_bytes("caf\\xe9 in d\xe9") == "caf\\xe9 in d\\xe9");
}
