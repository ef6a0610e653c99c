/* A client of a switch, for bench/switching.py.  It inherits a connected socket; which switch is at
 * the other end makes no difference to it.
 *
 *     client flood FD SIZE FROM TO SINCE UNTIL     send frames without a pause until UNTIL
 *     client count FD SINCE UNTIL                  receive until UNTIL and a silence of 0.5 s
 *     client ping FD SIZE FROM TO COUNT            send a frame and wait for one, COUNT times
 *     client pong FD                               send each frame back
 *
 * FROM and TO are the last bytes of the MAC addresses.  SINCE and UNTIL are in seconds of
 * CLOCK_MONOTONIC.  flood and count print two numbers: all frames, and those from SINCE to UNTIL.
 * ping prints the nanoseconds of each round trip.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

/* Frames per system call, and the longest frame in bytes. */
enum { BATCH = 32, LARGEST = 2048 };

static unsigned char frames[BATCH][LARGEST];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t nanoseconds(const char *text)
{
	return atof(text) * 1e9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void make_frames(size_t size, int from, int to)
{
	static const unsigned char head[14] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x88, 0xb5};

	for (int i = 0; i < BATCH; i++) {
		memcpy(frames[i], head, sizeof head);
		frames[i][5] = to;
		frames[i][11] = from;
		parts[i].iov_base = frames[i];
		parts[i].iov_len = size;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static void flood(int fd, int64_t since, int64_t until)
{
	uint64_t all = 0, within = 0;
	int64_t at;

	do {
		int sent = sendmmsg(fd, messages, BATCH, 0);

		if (sent < 0)
			fail("sendmmsg");
		at = now();
		all += sent;
		within += at >= since && at < until ? sent : 0;
	} while (at < until);
	printf("%llu %llu\n", (unsigned long long)all, (unsigned long long)within);
}

static void count(int fd, int64_t since, int64_t until)
{
	struct timeval silence = {0, 500000};
	uint64_t all = 0, within = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
	for (;;) {
		int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		int64_t at = now();

		if (got < 0 && errno != EAGAIN)
			fail("recvmmsg");
		if (got < 0 && at > until)
			break;
		if (got < 0)
			continue;
		all += got;
		within += at >= since && at < until ? got : 0;
	}
	printf("%llu %llu\n", (unsigned long long)all, (unsigned long long)within);
}

static void ping(int fd, size_t size, int rounds)
{
	unsigned char answer[LARGEST];

	for (int i = 0; i < rounds; i++) {
		int64_t before = now();

		if (send(fd, frames[0], size, 0) < 0)
			fail("send");
		if (recv(fd, answer, sizeof answer, 0) <= 0)
			fail("recv");
		printf("%lld\n", (long long)(now() - before));
	}
}

static void pong(int fd)
{
	unsigned char frame[LARGEST], source[6];
	ssize_t size;

	while ((size = recv(fd, frame, sizeof frame, 0)) > 0) {
		memcpy(source, frame + 6, 6);
		memcpy(frame + 6, frame, 6);
		memcpy(frame, source, 6);
		if (send(fd, frame, size, 0) < 0)
			fail("send");
	}
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? atoi(argv[2]) : -1;

	if (argc == 8 && !strcmp(argv[1], "flood")) {
		make_frames(atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
		flood(fd, nanoseconds(argv[6]), nanoseconds(argv[7]));
	} else if (argc == 5 && !strcmp(argv[1], "count")) {
		make_frames(LARGEST, 0, 0);
		count(fd, nanoseconds(argv[3]), nanoseconds(argv[4]));
	} else if (argc == 7 && !strcmp(argv[1], "ping")) {
		make_frames(atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
		ping(fd, atoi(argv[3]), atoi(argv[6]));
	} else if (argc == 3 && !strcmp(argv[1], "pong")) {
		pong(fd);
	} else {
		fputs("bad arguments; the head of switching_client.c lists them\n", stderr);
		return 2;
	}
	return 0;
}
