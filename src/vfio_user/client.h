// Drives a device over a vfio-user socket.
//
// A call's thread sends its command and reads its own reply. Only what a server asks of the client, DMA_READ and
// DMA_WRITE, needs a thread that is always there; it is started with the first mapping and sleeps.
//
// Thread-safety: everything may be called from any thread, at the same time.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <gangway/device_handle.h>

#include "vfio_user/channel.h"
#include "vfio_user/dma_service.h"
#include "vfio_user/negotiation.h"
#include "vfio_user/shared_memory.h"

namespace gangway::vfio_user {

struct ClientOptions {
  OpenOptions open;
  bool twin_socket = true;  // ask the server for a socket of its own for DMA messages
  bool extensions = true;   // ask for what docs/vfio-user.md adds to the specification
  bool shared_data = true;  // of those, migration data in shared memory
};

class Client : public DeviceHandle {
 public:
  static Result<std::unique_ptr<Client>> connect(const std::filesystem::path& socket, const ClientOptions& options);
  // Over a connected socket; `target` is for messages.
  static Result<std::unique_ptr<Client>> create(Fd socket, std::string target, const ClientOptions& options);
  ~Client() override;

  Result<Info> info() override;
  Result<Region> region(std::uint32_t index) override;
  Result<gangway::IrqInfo> irq(std::uint32_t index) override;
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) override;
  Result<std::size_t> write_multi(std::span<const RegionWrite> writes) override;
  Result<std::vector<IoFd>> io_fds(std::uint32_t region) override;
  Result<void> set_irqs(gangway::IrqSet request) override;
  Result<void> dma_map(const DmaMap& request) override;
  Result<void> dma_unmap(IovaRange range) override;
  Result<void> dma_unmap_reporting(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override;
  Result<void> dma_unmap_all() override;
  Result<void> reset() override;

  Result<std::vector<std::byte>> feature_get(Feature feature, std::span<const std::byte> data,
                                             std::size_t reply_size) override;
  Result<std::vector<std::byte>> feature_set(Feature feature, std::span<const std::byte> data) override;
  Result<void> feature_probe(Feature feature, bool get, bool set) override;

  Result<StreamRead> read_data(std::span<std::byte> out) override;
  Result<void> write_data(std::span<const std::byte> in) override;
  Result<StreamRead> read_ahead(std::span<std::byte> out) override;
  Result<void> write_behind(std::span<const std::byte> in) override;
  Result<void> settle() override;
  Result<PrecopyInfo> precopy_info() override;
  [[nodiscard]] bool tells_ends_apart() const override { return server_.enomsg; }
  Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override;

  [[nodiscard]] std::string target() const override { return target_; }

  // What the server said of itself.
  [[nodiscard]] const Capabilities& server() const { return server_; }
  // Why the connection is dead, if it is.
  [[nodiscard]] std::optional<Error> broken() const { return channel_.broken(); }

 private:
  struct FeatureReply {
    std::size_t size = 0;  // bytes of the structure after the header
  };
  struct DataPath;
  struct IncomingChunk;
  struct OutgoingChunk;
  struct ReadAhead;
  struct WriteBehind;
  struct ReportPiece;

  Client(Fd socket, std::string target, const ClientOptions& options);
  Result<void> negotiate(const ClientOptions& options);
  Result<void> take_twin(Channel::Reply& reply, const ClientOptions& options);

  // A call whose reply has exactly `reply_size` bytes of body; `fds` beside it are taken.
  Result<Channel::Reply> call_exactly(Command command, Outgoing outgoing, std::span<std::byte> head,
                                      std::span<std::byte> data = {});
  Result<void> call_without_payload(Command command, Outgoing outgoing);
  // Ends the connection: the server does not keep to the protocol.
  std::unexpected<Error> fail_protocol(std::string what);
  [[nodiscard]] Error in_words(std::string_view doing, Error error) const;

  Result<std::size_t> write_in_one_message(std::span<const RegionWrite> writes);
  Result<void> check_limits(const DmaMap& request) const;
  Result<void> count_map();
  void uncount_map();
  template <typename Fixed>
  struct Description;
  // GET_REGION_INFO, GET_REGION_IO_FDS: a structure with argsz and index, and what follows it.
  template <typename Fixed>
  Result<Description<Fixed>> describe(Command command, std::uint32_t region, std::string_view what);
  Result<void> send_irqs(const gangway::IrqSet& request, std::uint32_t first, std::uint32_t count);
  Result<FeatureReply> call_feature(std::uint32_t flags, std::span<const std::byte> data, std::span<std::byte> reply);
  Result<void> finish_report(ReportPiece& piece, std::span<std::uint64_t> bitmap);
  std::vector<std::uint64_t> take_report_room();
  void keep_report_room(std::vector<std::uint64_t> room);

  Result<DataPath> choose_path(std::size_t size);
  Result<void> ask_for_shared_data();
  Result<std::size_t> finish_read(IncomingChunk& chunk);
  Result<StreamEnd> which_end();
  Result<void> send_piece(const DataPath& path, std::size_t number, std::span<const std::byte> piece,
                          OutgoingChunk& chunk);

  // Read ahead and written behind. With the mutex of each held:
  Result<StreamRead> take_ahead(std::span<std::byte> out);
  Result<void> ask_ahead(std::size_t size, std::size_t left);
  void finish_piece(std::size_t index);
  void finish_pieces();
  void forget_ahead();
  Result<void> finish_writing();
  // Without:
  Result<StreamRead> read_what_is_ahead(std::span<std::byte> out);
  Result<void> before_state_change();
  void after_state_change();
  Result<DataPath> take_path();
  void give_back(const DataPath& path);

  const std::string target_;
  const std::chrono::milliseconds timeout_;
  Capabilities own_;
  Capabilities server_;
  Channel channel_;
  std::optional<Channel> twin_;
  std::optional<DmaService> dma_;
  std::atomic<std::uint64_t> maps_ = 0;  // that the server has, and those it is being asked for

  // Where reports are received before they are merged, when none is under way. Kept, since the kernel clears memory
  // that was given back when it is next used, page by page.
  std::mutex report_mutex_;
  std::vector<std::uint64_t> report_room_;

  std::mutex data_mutex_;  // one transfer by shared memory at a time
  bool asked_for_shared_data_ = false;
  bool shared_data_taken_ = false;  // by what is read ahead or written behind
  std::optional<SharedMemory> shared_data_;

  std::mutex ahead_mutex_;
  std::unique_ptr<ReadAhead> ahead_;
  std::atomic<bool> reads_ahead_ = false;
  std::mutex behind_mutex_;
  std::unique_ptr<WriteBehind> behind_;
  std::atomic<bool> writes_behind_ = false;
};

}  // namespace gangway::vfio_user
