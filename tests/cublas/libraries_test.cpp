#include "core/cuda/libraries.h"

#include <doctest/doctest.h>

#include "tests/support/environment.h"
#include "tests/support/files.h"

using namespace sg;
using test::Environment;

TEST_CASE("CUDA's libraries are found in toolkits, and in what pip installs") {
  const test::TemporaryFolder folder;
  const std::string root = folder.path().string(), file = "libthing.so.13";
  const auto install = [&](const std::string& where) {
    std::filesystem::create_directories(root + where);
    test::put(root + where + "/" + file, "");
    return root + where;
  };
  const auto python = [&](const std::string& prefix) {
    std::filesystem::create_directories(root + prefix + "/bin");
    test::put(root + prefix + "/bin/python3", "");
  };
  const Environment home("HOME", root + "/home"), conda("CONDA_PREFIX", {});
  const Environment toolkit("CUDA_HOME", root + "/opt/toolkit"), other_toolkit("CUDA_PATH", {});
  const Environment venv("VIRTUAL_ENV", root + "/venv");
  python("/torch/.venv");
  const Environment path("PATH", root + "/nowhere:" + root + "/torch/.venv/bin");
  CHECK(cuda::library_folders(file, root).empty());

  const std::string in_dist = install("/usr/lib/python3/dist-packages/nvidia/cublas/lib");
  const std::string in_home = install("/home/.local/lib/python3.9/site-packages/nvidia/cu13/lib");
  const std::string on_path = install("/torch/.venv/lib/python3.12/site-packages/nvidia/cu13/lib");
  const std::string in_venv = install("/venv/lib/python3.11/site-packages/nvidia/cublas/lib");
  const std::string in_local = install("/usr/local/cuda-13.0/lib64");
  const std::string in_toolkit = install("/opt/toolkit/lib64");
  const auto found = cuda::library_folders(file, root);
  REQUIRE(found.size() == 6);
  CHECK(found[0] == in_toolkit);
  CHECK(found[1] == in_local);
  CHECK(found[2] == in_venv);
  CHECK(std::filesystem::equivalent(found[3], on_path));
  CHECK(found[4] == in_home);
  CHECK(found[5] == in_dist);
  CHECK(cuda::library_folders("libother.so.13", root).empty());
}
