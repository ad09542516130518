// WIR-NEGOTIATE: what a server keeps to in the messages that it sends itself.
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include <fmt/core.h>

#include "base/bytes.h"
#include "base/unix_socket.h"
#include "conformance/steps.h"
#include "conformance/wire_client.h"
#include "vfio_user/client.h"
#include "vfio_user/message_relay.h"
#include "vfio_user/negotiation.h"

namespace gangway::conformance {
namespace {

using namespace vfio_user;

// Less than a page, so that whoever moves one has to cut it.
constexpr std::uint32_t kNarrow = 1024;

// What came of DMA messages.
struct DmaSeen {
  std::atomic<std::uint64_t> messages = 0;
  std::atomic<std::uint64_t> longest = 0;  // bytes of data
};

// Says in the client's place that it takes little at once, and hides that its memory has descriptors, so that the
// server has to ask for every byte.
class NarrowClient : public MessageEditor {
 public:
  explicit NarrowClient(std::shared_ptr<DmaSeen> seen) : seen_(std::move(seen)) {}

  void to_server(RelayedMessage& message) override {
    if (!message.is_command()) return;
    if (message.is(Command::DmaMap)) message.fds.clear();
    change_capabilities(message, [](Capabilities& said) { said.max_data_xfer_size = kNarrow; });
  }

  void to_client(RelayedMessage& message) override {
    if (!message.is_command() || (!message.is(Command::DmaRead) && !message.is(Command::DmaWrite))) return;
    const auto asked = load_at<DmaAccessMessage>(message.body);
    if (!asked) return;
    ++seen_->messages;
    if (asked->count > seen_->longest) seen_->longest = asked->count;
  }

 private:
  const std::shared_ptr<DmaSeen> seen_;
};

// A client at one end, the server at the other, and who listens in between.
class NarrowLine {
 public:
  static Result<std::shared_ptr<DeviceHandle>> open(const std::string& socket, std::chrono::milliseconds limit,
                                                    std::shared_ptr<DmaSeen> seen) {
    Result<Fd> server = connect_unix(socket, limit);
    if (!server) return std::unexpected(server.error());
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno("make a socket");
    const std::shared_ptr<NarrowLine> line(new NarrowLine(Fd(ends[0]), *std::move(server), std::move(seen)));
    ClientOptions options{.open = {.timeout = limit, .spin = std::chrono::microseconds(20)}};
    options.twin_socket = false;  // it would go past who listens
    auto client = Client::create(Fd(ends[1]), "vfio-user:" + socket, options);
    if (!client) return std::unexpected(client.error());
    line->device_ = *std::move(client);
    return std::shared_ptr<DeviceHandle>(line, line->device_.get());
  }
  ~NarrowLine() {
    device_.reset();
    relay_.stop();
    passing_.join();
  }
  NarrowLine(const NarrowLine&) = delete;
  NarrowLine& operator=(const NarrowLine&) = delete;

 private:
  NarrowLine(Fd client, Fd server, std::shared_ptr<DmaSeen> seen)
      : client_(std::move(client)),
        server_(std::move(server)),
        editor_(std::move(seen)),
        relay_(client_.get(), server_.get(), editor_),
        passing_([this] { relay_.run(); }) {}

  const Fd client_;
  const Fd server_;
  NarrowClient editor_;
  MessageRelay relay_;
  std::thread passing_;
  std::unique_ptr<DeviceHandle> device_;
};

void dma_messages_keep_to_the_clients_limit(Context& c) {
  constexpr std::string_view kScheme = "vfio-user:";
  c.device.close();
  c.journal.act(fmt::format("# a client without descriptors, whose max_data_xfer_size is {}", kNarrow));
  const auto seen = std::make_shared<DmaSeen>();
  const std::string socket(c.target.substr(kScheme.size()));
  Hangs hangs;
  Subject narrow([=, limit = c.settings.limit] { return NarrowLine::open(socket, limit, seen); }, c.journal, hangs,
                 {.limit = c.settings.limit});
  step(narrow.open(), "open the device by such a client");
  const std::shared_ptr<Workload> workload = set_up_workload(c, narrow);
  step(narrow.perform("work write pages",
                      [workload](DeviceHandle& device) -> Result<void> {
                        const auto written = workload->write_pages(device, 1);
                        if (!written) return std::unexpected(written.error());
                        return {};
                      }),
       "work");
  if (seen->messages == 0) throw Untestable{"the device moved no memory by messages", false};
  expect("WIR-NEGOTIATE", seen->longest <= kNarrow,
         fmt::format("DMA messages are of at most {} bytes, the client's max_data_xfer_size", kNarrow),
         fmt::format("one of {}", seen->longest.load()));
}

}  // namespace

std::vector<Test> wire_limit_tests() {
  return {{"dma_messages_keep_to_the_clients_limit",
           {"WIR-NEGOTIATE"},
           kWire | kWorkload | kDma,
           dma_messages_keep_to_the_clients_limit}};
}

}  // namespace gangway::conformance
