#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/unix_socket.h"
#include "guest/http_client.h"
#include "guest/http_message.h"
#include "guest/http_server.h"

namespace gangway::guest {
namespace {

class Http : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "gangway-http-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    socket_ = directory_ / "control";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void serve(HttpServer::Handler handler) {
    auto server = HttpServer::listen(socket_, std::move(handler));
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  // What comes back for these very bytes, up to the end of the connection.
  std::string raw(std::string_view request) {
    const auto connection = connect_unix(socket_, std::chrono::seconds(5));
    EXPECT_TRUE(connection.has_value());
    EXPECT_TRUE(write_all(connection->get(), request).has_value());
    ::shutdown(connection->get(), SHUT_WR);
    HttpReader reader(connection->get());
    return reader.read_rest().value_or("connection lost");
  }

  std::filesystem::path directory_;
  std::filesystem::path socket_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(Http, a_request_reaches_the_handler_and_its_answer_the_client) {
  serve([](const HttpRequest& request) -> HttpResponse {
    return {.status = 409, .body = request.method + " " + request.path + " " + request.body};
  });
  const auto reply = http_call(socket_, "POST", "/migrate", "{}");
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(reply->status, 409);
  EXPECT_EQ(reply->body, "POST /migrate {}");
}

TEST_F(Http, a_stream_arrives_part_by_part) {
  serve([](const HttpRequest&) -> HttpResponse {
    HttpResponse response;
    response.stream = [](const HttpResponse::Send& send) {
      for (const char* part : {"one\n", "", "two\n"}) send(part);
    };
    return response;
  });
  std::string parts;
  const auto reply = http_call(socket_, "GET", "/", {}, [&](std::string_view part) { parts += part; });
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(parts, "one\ntwo\n");
  EXPECT_EQ(reply->body, "");
}

TEST_F(Http, what_is_no_request_is_refused_and_the_next_one_served) {
  serve([](const HttpRequest&) -> HttpResponse { return {.body = "fine"}; });
  EXPECT_TRUE(raw("hello\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET / HTTP/1.1\r\nno colon\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("GET / HTTP/1.1\r\n" + std::string(20'000, 'x')).starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(raw("").starts_with("HTTP/1.1 400"));
  const auto reply = http_call(socket_, "GET", "/");
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(reply->body, "fine");
}

TEST_F(Http, a_client_that_leaves_during_a_stream_harms_nobody) {
  std::atomic<bool> noticed{false};
  serve([&](const HttpRequest&) -> HttpResponse {
    HttpResponse response;
    response.stream = [&](const HttpResponse::Send& send) {
      while (send(std::string(4096, 'x'))) {
      }
      noticed.store(true);
      noticed.notify_all();
    };
    return response;
  });
  {
    const auto connection = connect_unix(socket_, std::chrono::seconds(5));
    ASSERT_TRUE(connection.has_value());
    ASSERT_TRUE(write_all(connection->get(), "GET / HTTP/1.1\r\n\r\n").has_value());
    ASSERT_TRUE(HttpReader(connection->get()).read_head().has_value());
  }
  noticed.wait(false);
}

TEST_F(Http, a_socket_in_use_is_not_taken) {
  serve([](const HttpRequest&) -> HttpResponse { return {}; });
  const auto second = HttpServer::listen(socket_, [](const HttpRequest&) -> HttpResponse { return {}; });
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, EADDRINUSE);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

TEST_F(Http, calling_a_socket_that_is_not_there_says_so) {
  const auto reply = http_call(socket_, "GET", "/status");
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().message, "connect to '" + socket_.string() + "': No such file or directory");
}

}  // namespace
}  // namespace gangway::guest
