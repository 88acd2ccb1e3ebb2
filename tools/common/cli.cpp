#include "tools/common/cli.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>

#include "core/allocator.h"
#include "core/text.h"
#include "tools/common/timm.h"

namespace sg::tools {
namespace {

// --help and --version, which end the program from inside parse().
struct Finished {
  int code;
};

// What the first argument that nothing took may have meant.
std::string not_understood(const CLI::App& app, const std::string& argument) {
  if (!argument.starts_with('-'))
    return fmt::format("'{}' is one argument too many for {}{}", argument, app.get_name(),
                       argument.ends_with(".tar")
                           ? "; a pattern of shards stands in '...', or the shell takes it apart"
                           : "");
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  const std::string flag = argument.substr(0, argument.find('='));
  if (is_flag_of_torchrun(flag) && app.get_option_no_throw("--nproc-per-node"))
    return fmt::format(
        "'{0}' is a flag of torchrun, not of {1}, and stands before it: torchrun --no-python {0} "
        "... {1} ... (docs/cluster.md)",
        flag, app.get_name());
  const std::string ours = our_name(app, flag);
  if (ours.empty() && flag.starts_with("--no-")) {
    const std::string without = "--" + flag.substr(5);
    const CLI::Option* option = app.get_option_no_throw(without);
    if (option && option->get_expected_max() == 0)
      return fmt::format("'{}' is not a flag of {}; leave '{}' out", flag, app.get_name(), without);
  }
  return fmt::format(
      "'{}' is not a flag of {}{}", argument, app.get_name(),
      ours.empty() ? did_you_mean(flag, known) : fmt::format("; here it is '{}'", ours));
}

bool is_digits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// The number of a closed standard stream would go to the next file that is opened. What is written
// to one that was closed still fails.
void fill_standard_streams() {
  for (const int fd : {0, 1, 2})
    if (::fcntl(fd, F_GETFD) < 0) (void)!::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

// Logs: standard output is for results, which may be JSON.
class ToStandardError : public spdlog::sinks::base_sink<std::mutex> {
  void sink_it_(const spdlog::details::log_msg& m) override {
    const auto level = spdlog::level::to_string_view(m.level);
    say(fmt::format("{}: {}", std::string_view(level.data(), level.size()),
                    std::string_view(m.payload.data(), m.payload.size())));
  }
  void flush_() override {}
};

int run_body(const std::function<ExitCode()>& body) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<ToStandardError>()));
  try {
    const ExitCode code = body();
    Allocator::check_all_guards();
    return int(code);
  } catch (const Finished& f) {
    return f.code;
  } catch (const Error& e) {
    say(fmt::format("error: {}", e.what()));
    return int(e.code());
  } catch (const std::bad_alloc&) {
    say("error: out of memory; use a smaller batch or image size");
  } catch (const std::system_error& e) {
    const bool no_thread = e.code() == std::errc::resource_unavailable_try_again;
    say(fmt::format("error: {}{}", e.what(),
                    no_thread ? ": no further thread can be started; raise the limit of processes "
                                "(ulimit -u, or pids.max of the control group), or use fewer "
                                "processes, --threads and --workers"
                              : ""));
  } catch (const std::exception& e) {
    say(fmt::format("error: {}", e.what()));
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
  say(fmt::format("error: standard output: {}",
                  errno ? std::strerror(errno) : "not all was written"));
  return code ? code : int(ExitCode::failure);
}

void say(std::string_view line) {
  const std::string text = escape_odd_bytes(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void announce(const Compute& compute) { say(describe(compute)); }

void add_emulation_flag(CLI::App& app, Bf16Emulation& emulation) {
  emulation = Bf16Emulation::not_requested;
  app.add_flag_callback(
         "--emulate-bf16", [&] { emulation = Bf16Emulation::requested; },
         "--dtype bf16 also on a CPU that does not multiply bf16: by conversion, slower than f32")
      ->group("Runtime");
}

// Callbacks, because CLI11 gives an optional flag a value even where it is absent.
void add_ema_flags(CLI::App& app, std::optional<bool>& ema) {
  app.add_flag_callback(
      "--ema", [&] { ema = true; }, "averaged weights; the default where the file has them");
  app.add_flag_callback(
      "--no-ema", [&] { ema = false; }, "the weights themselves");
}

std::vector<std::string> arguments(int argc, char** argv) {
  const std::vector<std::string> typed(argv + 1, argv + argc);
  std::vector<std::string> result;
  for (size_t i = 0; i < typed.size(); ++i) {
    const std::string& arg = typed[i];
    size_t numbers = 0;  // that follow
    while (i + 1 + numbers < typed.size() && is_digits(typed[i + 1 + numbers])) ++numbers;
    if (arg == "--")
      return result.insert(result.end(), typed.begin() + int64_t(i), typed.end()), result;
    if (arg == "-vb" || arg.starts_with("-vb=")) {  // timm's; two letters are no short flag
      result.push_back("--validation-batch-size" + arg.substr(3));
    } else if (arg.size() > 2 && arg[0] == '-' && arg[1] != '-' && arg[2] == '=') {
      result.insert(result.end(), {arg.substr(0, 2), arg.substr(3)});
    } else if (arg == "--img-size" && numbers >= 2) {
      result.insert(result.end(), {arg, typed[i + 1] + "x" + typed[i + 2]});
      i += 2;
    } else if (arg == "--topk" && numbers >= 2) {
      result.push_back(arg);
      const auto first = typed.begin() + int64_t(i) + 1;
      result.push_back(fmt::format("{}", fmt::join(first, first + int64_t(numbers), ",")));
      i += numbers;
    } else if (arg == "--input-size" || arg.starts_with("--input-size=")) {
      if (arg != "--input-size" || numbers < 3 || typed[i + 1] != "3") {
        std::string found = arg.substr(std::strlen("--input-size"));
        for (size_t k = i + 1; k < typed.size() && !typed[k].starts_with('-'); ++k)
          found += (found.empty() ? "" : " ") + typed[k];
        fail(ExitCode::usage,
             "--input-size: expected 3 HEIGHT WIDTH (3: red, green, blue), found '{}'; --img-size "
             "takes N, or HEIGHT WIDTH",
             found);
      }
      result.insert(result.end(), {"--img-size", typed[i + 2] + "x" + typed[i + 3]});
      i += 3;
    } else {
      result.push_back(arg);
    }
  }
  return result;
}

CLI::Option* add_choice(CLI::App& app, const std::string& flag, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help) {
  const auto take = [&value, flag, choices](const CLI::results_t& given) {
    if (std::ranges::find(choices, given[0]) == choices.end())
      fail(ExitCode::usage, "{}: expected {}, found '{}'{}", flag, fmt::join(choices, " or "),
           given[0], did_you_mean(given[0], choices));
    value = given[0];
    return true;
  };
  return app.add_option(flag, take, help)
      ->type_name(fmt::format("{}", fmt::join(choices, "|")))
      ->default_str(value)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

void parse(CLI::App& app, int argc, char** argv) {
  app.name(std::filesystem::path(argv[0]).filename().string());
  app.set_version_flag("--version", SG_VERSION);
  app.allow_extras();
  const auto check_extras = [&] {  // first, since what is missing is often what was mistyped
    auto extras = app.remaining();
    std::erase(extras, "--");  // what follows is no flag
    if (!extras.empty())
      fail(ExitCode::usage, "{}; see --help", not_understood(app, extras.front()));
  };
  try {
    std::vector<std::string> args = arguments(argc, argv);
    std::ranges::reverse(args);  // as CLI11 takes them
    app.parse(std::move(args));
    check_extras();
  } catch (const CLI::Success& e) {
    throw Finished{app.exit(e)};
  } catch (const CLI::ParseError& e) {
    check_extras();
    fail(ExitCode::usage, "{}; see --help", e.what());
  }
}

}  // namespace sg::tools
