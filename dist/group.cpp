#include "dist/group.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "core/error.h"
#include "dist/control.h"
#include "dist/gloo_communicator.h"
#include "dist/rendezvous.h"
#include "dist/say.h"

namespace sg::dist {
namespace {

class ProcessGroup final : public Group {
 public:
  ProcessGroup(const Launch& launch, const GroupSettings& settings) {
    const ControlSettings control{launch.ranks, launch.job, settings.timeout};
    std::unique_ptr<Rendezvous> rendezvous;
    Channel connection;
    if (launch.rank == 0) {
      rendezvous = std::make_unique<Rendezvous>(launch, settings.folder);
      int ends[2];
      check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair: {}",
            std::strerror(errno));
      connection = Channel(FileDescriptor(ends[0]));
      server_ = std::make_unique<ControlServer>(std::move(rendezvous->listener),
                                                FileDescriptor(ends[1]), control);
      say_hello(connection, launch);
    } else {
      connection = find_rank_0(launch, control, settings.folder);
    }
    control_ =
        std::make_unique<Control>(std::move(connection), launch.rank, control, settings.exit_after);
    control_->wait_for_all();
  }

  ~ProcessGroup() override {
    if (std::uncaught_exceptions() > exceptions_)
      control_->leave("an error");
    else
      close_communicator();
    control_->goodbye();
    control_->watch(nullptr);
  }

  int rank() const override { return control_->rank(); }
  int ranks() const override { return control_->ranks(); }
  std::chrono::duration<double> timeout() const override { return control_->timeout(); }
  std::string name_of(int rank) const override { return control_->name_of(rank); }

  std::vector<std::string> all_gather(std::string_view what, const std::string& text) override {
    return control_->meet(MeetingKind::gather, what, text);
  }
  std::string broadcast(std::string_view what, const std::string& text) override {
    return std::move(
        control_->meet(MeetingKind::broadcast, what, leads() ? text : std::string()).at(0));
  }
  void barrier(std::string_view what) override { control_->meet(MeetingKind::barrier, what, ""); }

  void progress(std::string_view where) override { control_->progress(where); }
  void busy(std::string_view what, const std::function<void()>& f) override {
    struct Busy {
      Control& control;
      ~Busy() { control.set_busy(""); }
    };
    control_->set_busy(what);
    const Busy until_the_end{*control_};
    f();
  }

  Communicator& communicator(Device device) override {
    if (communicator_) {
      check(device == device_, "the communicator is on {}, and {} was asked for", str(device_),
            str(device));
      return *communicator_;
    }
    // Connecting begins when all are here, and waits for nobody else.
    barrier(fmt::format("the connections between devices {}", sg::name_of(device.type)));
    control_->set_connecting(true);
    communicator_ = device.type == DeviceType::cpu ? gloo_communicator(*control_)
                                                   : make_communicator(*this, device);
    control_->set_connecting(false);
    device_ = device;
    control_->watch(communicator_.get());
    return *communicator_;
  }

  void leave(std::string_view reason) override { control_->leave(reason); }

 private:
  // After all that used it.
  void close_communicator() {
    try {
      if (communicator_) communicator_->close();
    } catch (const std::exception& e) {
      say("warning", e.what());
    }
  }

  const int exceptions_ = std::uncaught_exceptions();
  std::unique_ptr<ControlServer> server_;  // of rank 0; ends last
  std::unique_ptr<Control> control_;
  std::unique_ptr<Communicator> communicator_;
  Device device_;
};

// Rank 0 has a connection from each rank, and with Gloo each has one to each. The usual limit of
// 1024 files is one for programs that use select(), which none of those do.
void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

Wire parse_wire(std::string_view name) {
  if (name == "f32") return Wire::f32;
  if (name == "bf16") return Wire::bf16;
  fail(ExitCode::usage, "--reduce-dtype: expected f32 or bf16, found '{}'", name);
}

std::unique_ptr<Group> join(const Launch& launch, const GroupSettings& settings) {
  check(launch.ranks > 1, "dist: expected several processes, found {}", launch.ranks);
  raise_file_limit();
  return std::make_unique<ProcessGroup>(launch, settings);
}

}  // namespace sg::dist
