#include <doctest/doctest.h>

#include <cstdlib>

#include "core/text.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("shell command: words with nothing odd stay as they are") {
  CHECK(shell_command({"build/bin/sgtrain", "--lr=1e-3", "-b", "8"}) ==
        "build/bin/sgtrain --lr=1e-3 -b 8");
  CHECK(shell_command({"a b", "", "it's"}) == "'a b' '' 'it'\\''s'");
  CHECK(shell_command({"r\xe9\n"}) == "$'r\\xe9\\x0a'");
}

TEST_CASE("shell command: a shell takes it apart into the same bytes") {
  const TemporaryFolder folder;
  const std::vector<std::string> words{"a b",           "",     "it's",   "$HOME", "`id`", "\\",
                                       "a;b",           "*",    "~",      "\"q\"", "-x",   "#",
                                       "\xc3\xbc/\xe9", "a\tb", "\\\xe9'"};
  std::vector<std::string> command{"printf", "%s\\n"};
  command.insert(command.end(), words.begin(), words.end());
  const std::string out = (folder / "out").string();
  put(folder / "script", shell_command(command) + " >" + out);
  REQUIRE(std::system(("bash " + (folder / "script").string()).c_str()) == 0);
  std::string expected;
  for (const std::string& word : words) expected += word + "\n";
  CHECK(read_file(out) == expected);
}
