// A recording in a file: what is written is read, and what ends the writer costs no more than the last record.
#include "record/trace_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace gangway::record {
namespace {

using namespace std::chrono_literals;

std::vector<std::byte> bytes(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

const Meta kMeta{.subject = Subject::VfioUser,
                 .program = "gangway 0.1.0",
                 .began = "2026-01-31T12:00:00Z",
                 .target = "/run/nvme.sock",
                 .machine = "Linux",
                 .command = {"qemu", "-device"},
                 .payload = true};

std::vector<Record> one_of_each() {
  return {
      ConnectionRecord{.time = 1ms, .connection = 1, .event = ConnectionRecord::Event::Opened, .text = "pid 7"},
      MessageRecord{.time = 2ms,
                    .connection = 1,
                    .direction = MessageRecord::Direction::ToClient,
                    .path = MessageRecord::Path::Twin,
                    .cut = true,
                    .by_sharing = true,
                    .header = {.id = 3, .command = 11, .size = 32, .flags = 1},
                    .descriptors = {{Descriptor::Kind::Memory, true, 4096}, {Descriptor::Kind::Eventfd, false, 0}},
                    .structure = bytes("structure"),
                    .payload = {.size = 6, .hash = 0x1234}},
      ProcessRecord{.time = 3ms,
                    .process = 10,
                    .thread = 11,
                    .event = ProcessRecord::Event::Forked,
                    .value = -1,
                    .text = "/bin/true"},
      CallRecord{.time = 4ms,
                 .took = 5us,
                 .process = 10,
                 .thread = 11,
                 .role = CallRecord::Role::Device,
                 .call = CallRecord::Call::Ioctl,
                 .object = 2,
                 .descriptor = 9,
                 .request = 0x3b75,
                 .offset = 1,
                 .length = 2,
                 .result = -1,
                 .error = ENOTTY,
                 .text = "path",
                 .argument = bytes("before"),
                 .answer = bytes("after"),
                 .pointed = bytes("there"),
                 .descriptors = {{Descriptor::Kind::Device, false, 0}},
                 .payload = {.size = 4, .hash = 0x99},
                 .parent = 1},
      NoteRecord{.time = 6ms, .text = "noted"},
  };
}

class TraceFile : public testing::Test {
 protected:
  TraceFile() {
    std::string name = (std::filesystem::temp_directory_path() / "trace-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
  }
  ~TraceFile() override { std::filesystem::remove_all(folder_); }

  TraceWriter create() {
    auto writer = TraceWriter::create(path_(), kMeta);
    if (!writer) throw std::runtime_error(writer.error().message);
    return std::move(*writer);
  }
  std::filesystem::path path_() const { return folder_ / "a.trace"; }
  std::vector<std::byte> content() const {
    std::ifstream file(path_(), std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    return bytes(all);
  }

  std::filesystem::path folder_;
};

struct Read {
  std::vector<Record> records;
  std::optional<std::string> cut;
  std::string error;
};

Read read_all(Result<TraceReader> reader) {
  Read read;
  if (!reader) return {.error = reader.error().message};
  for (;;) {
    auto record = reader->next();
    if (!record) return {.records = std::move(read.records), .error = record.error().message};
    if (!*record) break;
    read.records.push_back(**std::move(record));
  }
  read.cut = reader->cut();
  return read;
}

// Processes of a test: what runs in one is a function that does not return to it.
int in_a_child(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(TraceFile, calls_of_files_from_before_they_had_a_parent_are_read) {
  const Record call = one_of_each()[3];
  Encoder encoder;
  const Encoded now = encoder.encode(call);
  const auto read = [&](std::size_t fewer) {
    return decode(static_cast<RecordType>(now.type), now.body.first(now.body.size() - fewer));
  };
  CallRecord expected = std::get<CallRecord>(call);
  EXPECT_EQ(std::get<CallRecord>(*read(0)), expected);
  expected.parent = 0;
  EXPECT_EQ(std::get<CallRecord>(*read(sizeof expected.parent)), expected);
  EXPECT_FALSE(read(sizeof expected.parent - 1)) << "a part of it is none";
  EXPECT_FALSE(read(sizeof expected.parent + 1));
}

TEST_F(TraceFile, what_is_written_is_read) {
  const std::vector<Record> written = one_of_each();
  {
    TraceWriter writer = create();
    for (const Record& record : written) writer.write(record);
    ASSERT_TRUE(writer.close());
  }
  auto reader = TraceReader::open(path_());
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->meta(), kMeta);
  const Read read = read_all(std::move(reader));
  EXPECT_EQ(read.error, "");
  EXPECT_EQ(read.cut, std::nullopt);
  ASSERT_EQ(read.records.size(), written.size());
  Encoder expected;
  Encoder found;
  for (std::size_t i = 0; i < written.size(); ++i) {
    const Encoded a = expected.encode(written[i]);
    const Encoded b = found.encode(read.records[i]);
    EXPECT_EQ(a.type, b.type);
    EXPECT_TRUE(std::ranges::equal(a.body, b.body)) << "record " << i;
  }
}

TEST_F(TraceFile, a_payload_comes_back_from_its_pieces_whatever_lies_between_them) {
  MessageRecord message{.connection = 1, .structure = {}, .payload = {.size = 600'000, .hash = 7}};
  const MessageRecord other{.connection = 1, .direction = MessageRecord::Direction::ToClient, .payload = {.size = 3}};
  std::vector<std::byte> payload(600'000);
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i * 7);
  {
    TraceWriter writer = create();
    writer.write_payload(stream_of(message), std::span(payload).first(100));
    writer.write_payload(stream_of(other), bytes("abc"));
    writer.write_payload(stream_of(message), std::span(payload).subspan(100));
    writer.write(other);
    writer.write(message);
  }
  const Read read = read_all(TraceReader::open(path_()));
  ASSERT_EQ(read.records.size(), 2U) << read.error;
  EXPECT_EQ(std::get<MessageRecord>(read.records[0]).payload.bytes, bytes("abc"));
  EXPECT_EQ(std::get<MessageRecord>(read.records[1]).payload.bytes, payload);
}

TEST_F(TraceFile, a_file_that_ends_at_any_byte_reads_up_to_its_last_whole_record) {
  {
    TraceWriter writer = create();
    for (const Record& record : one_of_each()) writer.write(record);
  }
  const std::vector<std::byte> whole = content();
  const std::size_t all = one_of_each().size();
  std::size_t before = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Read read = read_all(TraceReader::read(std::span(whole).first(size)));
    if (!read.error.empty()) {
      EXPECT_EQ(before, 0U) << size;  // only while what comes first is not there
      continue;
    }
    EXPECT_GE(read.records.size(), before) << size;
    before = read.records.size();
    EXPECT_LT(before, all) << size;
  }
  EXPECT_EQ(before, all - 1);
}

TEST_F(TraceFile, a_wrong_byte_is_found_and_what_stands_before_it_is_read) {
  {
    TraceWriter writer = create();
    for (const Record& record : one_of_each()) writer.write(record);
  }
  std::vector<std::byte> whole = content();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    whole[at] ^= std::byte{0x10};
    const Read read = read_all(TraceReader::read(whole));
    EXPECT_TRUE(!read.error.empty() || (read.cut && read.records.size() < one_of_each().size())) << "byte " << at;
    whole[at] ^= std::byte{0x10};
  }
}

TEST_F(TraceFile, a_writer_that_is_killed_leaves_all_that_it_wrote) {
  constexpr int kRecords = 30'000;  // more than one window of the file
  const int status = in_a_child([&] {
    TraceWriter writer = create();
    for (int i = 0; i < kRecords; ++i) {
      writer.write(ConnectionRecord{.connection = static_cast<std::uint32_t>(i), .text = std::string(80, 'x')});
    }
    ::kill(::getpid(), SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  const Read read = read_all(TraceReader::open(path_()));
  EXPECT_EQ(read.error, "");
  ASSERT_EQ(read.records.size(), std::size_t{kRecords});
  EXPECT_EQ(std::get<ConnectionRecord>(read.records.back()).connection, std::uint32_t{kRecords - 1});
  ASSERT_TRUE(read.cut);
  EXPECT_NE(read.cut->find("was not ended"), std::string::npos) << *read.cut;
}

TEST_F(TraceFile, where_there_is_no_room_writing_ends_with_a_reason_and_what_was_written_is_read) {
  const int status = in_a_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit most{5U << 20, 5U << 20};
    ::setrlimit(RLIMIT_FSIZE, &most);
    TraceWriter writer = create();
    for (int i = 0; i < 200'000 && !writer.failure(); ++i) writer.write(NoteRecord{.text = std::string(80, 'x')});
    if (!writer.failure() || writer.failure()->code != EFBIG || writer.close()) ::_exit(1);
  });
  EXPECT_EQ(status, 0);
  const Read read = read_all(TraceReader::open(path_()));
  EXPECT_EQ(read.error, "");
  EXPECT_GT(read.records.size(), 10'000U);
  EXPECT_EQ(read.cut, std::nullopt);
}

TEST_F(TraceFile, a_recording_is_not_overwritten) {
  {
    TraceWriter writer = create();
  }
  const auto again = TraceWriter::create(path_(), kMeta);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, EEXIST);
  EXPECT_TRUE(TraceReader::open(path_()));
}

TEST_F(TraceFile, a_record_of_a_later_type_is_skipped_and_a_longer_one_read) {
  {
    TraceWriter writer = create();
  }
  std::vector<std::byte> file = content();
  const auto append = [&](std::uint16_t type, std::span<const std::byte> body) {
    const Frame frame{.size = static_cast<std::uint32_t>(body.size()), .type = type, .checksum = checksum(type, body)};
    std::ranges::copy(bytes_of(frame), std::back_inserter(file));
    std::ranges::copy(body, std::back_inserter(file));
  };
  append(77, bytes("of a later version"));
  Encoder encoder;
  const Encoded note = encoder.encode(NoteRecord{.time = 1ms, .text = "kept"});
  std::vector<std::byte> longer(note.body.begin(), note.body.end());
  longer.resize(longer.size() + 9, std::byte{1});
  append(note.type, longer);
  const Read read = read_all(TraceReader::read(file));
  EXPECT_EQ(read.error, "");
  ASSERT_EQ(read.records.size(), 1U);
  EXPECT_EQ(std::get<NoteRecord>(read.records[0]).text, "kept");
}

TEST_F(TraceFile, what_is_no_recording_is_refused_in_words) {
  std::ofstream(path_()) << "#!/bin/sh\necho a script, and long enough to be looked at\n";
  const Read read = read_all(TraceReader::open(path_()));
  EXPECT_NE(read.error.find("no recording"), std::string::npos) << read.error;
}

}  // namespace
}  // namespace gangway::record
