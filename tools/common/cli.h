// What every program shares: parsing, --version, and errors that become messages and exit codes.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/compute.h"
#include "core/error.h"

namespace sg::tools {

// Runs the body of main: an Error becomes one line on standard error and its exit code. Logs go to
// standard error too. Standard output that cannot be written is ExitCode::failure. Damage that
// guards behind tensors found (core/allocator.h) is an Error.
int run(const std::function<ExitCode()>& body);

// A line on standard error, bytes of names that are no UTF-8 escaped. Where it cannot be written
// nothing happens: the program's exit code says how it ended.
void say(std::string_view line);

// What was typed, without the program's name, as the parser takes it: "-b=8" is "-b 8",
// "--img-size 320 256" is "--img-size 320x256", and so is timm's "--input-size 3 320 256"; "-vb"
// is "--validation-batch-size"; "--topk 1 5" is "--topk 1,5".
std::vector<std::string> arguments(int argc, char** argv);

// Parses; adds --version. --help and --version end the program; a wrong argument throws
// ExitCode::usage, naming the nearest flag where one is unknown.
void parse(CLI::App& app, int argc, char** argv);

// An option whose value is one of `choices`; another throws ExitCode::usage with the nearest.
CLI::Option* add_choice(CLI::App& app, const std::string& flag, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help);

// Says on standard error where the program computes, and why there.
void announce(const Compute& compute);

// --emulate-bf16, for programs that do not train; `emulation` says whether it was given.
void add_emulation_flag(CLI::App& app, Bf16Emulation& emulation);

// --ema and --no-ema; `ema` stays empty where neither is given.
void add_ema_flags(CLI::App& app, std::optional<bool>& ema);

}  // namespace sg::tools
