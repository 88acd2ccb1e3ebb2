#include "tools/common/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "core/allocator.h"
#include "core/text.h"

namespace sg::tools {
namespace {

// --help and --version, which end the program from inside parse().
struct Finished {
  int code;
};

std::string unknown_flag(const CLI::App& app, const std::vector<std::string>& extras) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  const std::string flag = extras.front().substr(0, extras.front().find('='));
  return fmt::format("'{}' is not a flag of {}{}", extras.front(), app.get_name(),
                     did_you_mean(flag, known));
}

// The number of a closed standard stream would go to the next file that is opened.
void fill_standard_streams() {
  for (int fd : {0, 1, 2})
    if (::fcntl(fd, F_GETFD) < 0) (void)!::open("/dev/null", O_RDWR);
}

int run_body(const std::function<ExitCode()>& body) {
  // Standard output is for results, which may be JSON.
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  spdlog::set_pattern("%l: %v");
  try {
    const ExitCode code = body();
    Allocator::check_all_guards();
    return int(code);
  } catch (const Finished& f) {
    return f.code;
  } catch (const Error& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return int(e.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: out of memory; use a smaller batch or image size\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "error: {}\n", e.what());
  }
  return int(ExitCode::failure);
}

}  // namespace

int run(const std::function<ExitCode()>& body) {
  fill_standard_streams();
  // A reader that leaves, and a limit of files' sizes, are errors of the write, not of the program.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  const int code = run_body(body);
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return code;
  fmt::print(stderr, "error: standard output: {}\n",
             errno ? std::strerror(errno) : "not all was written");
  return code ? code : int(ExitCode::failure);
}

void announce(const Compute& compute) { fmt::print(stderr, "{}\n", describe(compute)); }

// Callbacks, because CLI11 gives an optional flag a value even where it is absent.
void add_ema_flags(CLI::App& app, std::optional<bool>& ema) {
  app.add_flag_callback(
      "--ema", [&] { ema = true; }, "averaged weights; the default where the file has them");
  app.add_flag_callback(
      "--no-ema", [&] { ema = false; }, "the weights themselves");
}

void parse(CLI::App& app, int argc, char** argv) {
  app.name(std::filesystem::path(argv[0]).filename().string());
  app.set_version_flag("--version", SG_VERSION);
  app.allow_extras();
  try {
    app.parse(argc, argv);
    if (const auto extras = app.remaining(); !extras.empty())
      fail(ExitCode::usage, "{}; see --help", unknown_flag(app, extras));
  } catch (const CLI::Success& e) {
    throw Finished{app.exit(e)};
  } catch (const CLI::ParseError& e) {
    fail(ExitCode::usage, "{}; see --help", e.what());
  }
}

}  // namespace sg::tools
