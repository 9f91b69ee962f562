#!/usr/bin/env python3
"""faultsmtp - a fault-injecting SMTP sink for tests (asyncio, standard library only).

It accepts mail on loopback, injects faults with given probabilities, and on
SIGTERM / SIGINT writes one JSON summary: accepted mails, per-recipient and
per-Message-ID counts, duplicates (split into the unavoidable ones, which follow
a lost acknowledgement, and the others), injected faults, protocol violations.

Fault decisions are deterministic: each is a hash of (seed, fault, key, n-th
attempt for that key), where the key is the recipient (RCPT faults), the
Message-ID + recipients (DATA faults) or the connection number (connect faults).
So the same seed gives the same faults for the same mail whatever the order in
which connections interleave.

Exit codes: 0 normal end; 2 usage; 3 could not bind.
"""
import argparse, asyncio, base64, hashlib, json, os, re, signal, socket, ssl, struct, subprocess, sys, tempfile, time
from collections import Counter

CRLF_DOT = b"\r\n.\r\n"
SENDERS_EXCEEDED = b"4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information."
ADDR = re.compile(rb"^<([^>]*)>\s*(.*)$", re.S)


def build_parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a = p.add_argument
    a("--host", default="127.0.0.1")
    a("--port", type=int, default=2525, help="0 picks a free port")
    a("--port-file", help="write the bound port here once listening")
    a("--hostname", default="fault.test", help="name in the greeting")
    g = p.add_mutually_exclusive_group()
    g.add_argument("--store", metavar="DIR", help="DIR/new/N.eml (raw mail) + N.json (envelope), each mail once, by rename")
    g.add_argument("--count-only", action="store_true", help="keep nothing but counters (default)")
    a("--fsync", action="store_true", help="with --store: fsync file and directory before the final 250")
    a("--seed", default="1")
    a("--summary", help="JSON summary file (default: standard output); SIGUSR1 writes it without stopping")
    a("--journal", help="append one JSON line per event (attempt times, replies): for checking back-off")
    a("--key-header", default="", help="header that names the notice (e.g. X-Notice-Id); used for the duplicate count "
      "instead of Message-ID, for clients that make a new Message-ID per attempt")
    a("--full-maps", action="store_true", help="summary holds every per-recipient/per-Message-ID count; without it maps "
      "of more than 20000 entries are cut to those with a count other than 1")
    f = p.add_argument_group("faults (probabilities 0..1)")
    for name, hlp in [
        ("p-421-connect", "421 instead of the greeting, then close"),
        ("p-drop-connect", "close at once, no greeting"),
        ("p-451-mail", "451 at MAIL FROM"),
        ("p-450-rcpt", "450 4.2.0 at RCPT (mailbox busy / greylist)"),
        ("p-451-rcpt", "451 4.3.0 at RCPT (local error)"),
        ("p-452-rcpt", "452 4.2.2 at RCPT (over quota)"),
        ("p-550-rcpt", "550 5.1.1 at RCPT, sticky for that address"),
        ("p-451-data", "451 at DATA"),
        ("p-451-final", "451 after the final dot (not accepted)"),
        ("p-452-final", "452 4.3.1 after the final dot (not accepted)"),
        ("p-554-final", "554 5.7.1 after the final dot (content refused)"),
        ("p-421-final", "421 after the final dot, then close (not accepted)"),
        ("p-drop-data", "close in the middle of the message text"),
        ("p-drop-before", "close after the final dot: NOT accepted, no reply"),
        ("p-drop-after", "close after the final dot: ACCEPTED and counted, the 250 is never sent (lost ack)"),
        ("p-stall-final", "ACCEPTED, but the 250 comes only after --stall-s (client time-out, lost ack)"),
        ("p-stall", "hang for --stall-s before the reply to a RCPT"),
        ("p-454-auth", "454 4.7.0 temporary authentication failure"),
        ("p-454-tls", "454 4.7.0 at STARTTLS"),
    ]:
        f.add_argument("--" + name, type=float, default=0.0, metavar="P", help=hlp)
    f.add_argument("--reject-rcpt", metavar="REGEX", action="append", default=[], help="550 5.1.1 for matching recipients (may repeat)")
    f.add_argument("--rcpt-refusal", metavar="REPLY", default="550 5.1.1 no such user", help="the reply of --reject-rcpt, with _ for spaces")
    f.add_argument("--final-refusal", metavar="REPLY", help="refuse every text with this reply, with _ for spaces")
    f.add_argument("--tempfail-rcpt", metavar="REGEX", action="append", default=[], help="450 4.2.0 for matching recipients, always")
    f.add_argument("--greylist", type=int, default=0, metavar="N", help="450 4.7.1 for the first N attempts of each recipient")
    f.add_argument("--max-faults-per-key", type=int, default=0, metavar="N", help="no more than N faults per recipient / mail (0: no cap)")
    f.add_argument("--fault-first", type=int, default=0, metavar="N", help="inject probability faults only in the first N attempts of a key (0: always)")
    f.add_argument("--stall-s", type=float, default=60.0)
    f.add_argument("--drop-mode", choices=("fin", "rst", "mix"), default="fin", help="how drops look to the client: EOF, reset, or either")
    f.add_argument("--delay-ms", default="0", metavar="A[:B]", help="delay of each reply named in --delay-at, uniform A..B")
    f.add_argument("--delay-at", default="final", help="comma list of connect,ehlo,mail,rcpt,data,final,all")
    f.add_argument("--max-msgs-per-conn", type=int, default=0, metavar="N", help="421 4.7.0 at the MAIL after N messages, then close")
    f.add_argument("--max-conns", type=int, default=0, metavar="N", help="421 4.7.0 to further simultaneous connections")
    f.add_argument("--max-senders", type=int, default=0, metavar="N", help="432 4.3.2 to further connections that send, as Exchange Online")
    f.add_argument("--max-senders-at", choices=["data", "final"], default="data")
    f.add_argument("--max-rcpts", type=int, default=0, metavar="N", help="452 4.5.3 after N recipients of one mail")
    f.add_argument("--rate-limit", type=float, default=0, metavar="R", help="450 4.7.1 at MAIL above R mails a second (token bucket, burst R)")
    f.add_argument("--outage", metavar="START:LEN", action="append", default=[], help="from START s after launch, for LEN s: 421 to every connection")
    f.add_argument("--idle-s", type=float, default=300.0, help="421 4.4.2 and close after this idle time")
    e = p.add_argument_group("extensions")
    e.add_argument("--size-limit", type=int, default=10485760)
    e.add_argument("--no-pipelining", action="store_true")
    e.add_argument("--no-8bitmime", action="store_true")
    e.add_argument("--no-smtputf8", action="store_true")
    e.add_argument("--no-ehlo", action="store_true", help="502 to EHLO (the client must fall back to HELO)")
    e.add_argument("--starttls", action="store_true", help="offer STARTTLS (self-made certificate unless --cert/--key)")
    e.add_argument("--implicit-tls", action="store_true", help="TLS from the first byte (port 465 style)")
    e.add_argument("--require-tls", action="store_true", help="530 5.7.0 to MAIL/AUTH before STARTTLS")
    e.add_argument("--strip-starttls", action="store_true", help="do not announce STARTTLS and 502 it (downgrade attack)")
    e.add_argument("--cert"), e.add_argument("--key")
    e.add_argument("--cert-name", default="localhost", help="subjectAltName of the self-made certificate (comma list; IPs allowed)")
    e.add_argument("--cert-days", type=int, default=30, help="validity of the self-made certificate; negative: already expired")
    e.add_argument("--cert-dir", help="where to keep the self-made cert.pem/key.pem (default: a temporary folder)")
    e.add_argument("--auth", metavar="USER:PASS", help="offer AUTH PLAIN and LOGIN with this one account")
    e.add_argument("--auth-mechs", default="PLAIN LOGIN")
    e.add_argument("--require-auth", action="store_true", help="530 5.7.0 to MAIL without AUTH")
    e.add_argument("--auth-only-tls", action="store_true", help="announce AUTH only under TLS")
    return p


class State:
    """Everything shared by the connections."""

    def __init__(self, o):
        self.o = o
        self.t0 = time.time()
        self.conns = 0
        self.active = 0
        self.max_active = 0
        self.senders = set()           # connections within --max-senders
        self.accepted = 0
        self.bytes = 0
        self.first = self.last = None
        self.rcpt = Counter()          # accepted per recipient
        self.mid = Counter()           # accepted per Message-ID
        self.key = Counter()           # accepted per (key header or Message-ID, recipient)
        self.lost = Counter()          # lost acks per (key, recipient)
        self.excusable = 0             # duplicates that follow a lost ack
        self.inexcusable = Counter()
        self.attempts = Counter()      # MAIL transactions reaching RCPT, per recipient
        self.faults = Counter()
        self.replies = Counter()
        self.viol = Counter()
        self.viol_example = {}
        self.tries = Counter()         # (fault family, key) -> attempts
        self.hits = Counter()          # key -> faults
        self.msgs_per_conn = Counter()
        self.tls = Counter()
        self.auth_ok = self.auth_bad = 0
        self.seq = 0
        self.bucket, self.bucket_t = o.rate_limit, time.monotonic()
        self.reject = [re.compile(x, re.I) for x in o.reject_rcpt]
        self.temp = [re.compile(x, re.I) for x in o.tempfail_rcpt]
        self.outages = [tuple(map(float, x.split(":"))) for x in o.outage]
        lo, _, hi = o.delay_ms.partition(":")
        self.delay = (float(lo) / 1000, float(hi or lo) / 1000)
        self.delay_at = set(o.delay_at.split(","))
        self.delay_n = 0
        self.ehlo_cache = {}
        self.ctx = None
        self.journal = open(o.journal, "a", buffering=1) if o.journal else None
        self.store = o.store
        if self.store:
            os.makedirs(os.path.join(self.store, "tmp"), exist_ok=True)
            os.makedirs(os.path.join(self.store, "new"), exist_ok=True)
            have = [int(n[:9]) for n in os.listdir(os.path.join(self.store, "new")) if n[:9].isdigit()]
            self.seq = max(have, default=0)
            self.dirfd = os.open(os.path.join(self.store, "new"), os.O_DIRECTORY)

    def chance(self, *what):
        """A number in [0,1), a pure function of the seed and its arguments."""
        h = hashlib.blake2b("\0".join((self.o.seed,) + tuple(map(str, what))).encode("utf-8", "surrogateescape"), digest_size=8)
        return int.from_bytes(h.digest(), "big") / 2**64

    def pick(self, family, key, table):
        """Chooses at most one fault of the table [(name, p)] for this attempt of the key."""
        table = [(n, p) for n, p in table if p > 0]
        if not table:
            return None
        self.tries[family, key] += 1
        n = self.tries[family, key]
        if self.o.fault_first and n > self.o.fault_first:
            return None
        if self.o.max_faults_per_key and self.hits[key] >= self.o.max_faults_per_key:
            return None
        x = self.chance(family, key, n)
        for name, p in table:
            if x < p:
                self.hits[key] += 1
                self.faults[name] += 1
                return name
            x -= p
        return None

    def log(self, **kw):
        if self.journal:
            kw["t"] = round(time.time(), 4)
            self.journal.write(json.dumps(kw) + "\n")

    def violation(self, what, example=b""):
        self.viol[what] += 1
        if what not in self.viol_example:
            self.viol_example[what] = example[:120].decode("utf-8", "backslashreplace")

    def in_outage(self):
        t = time.time() - self.t0
        return any(s <= t < s + l for s, l in self.outages)

    def rate_ok(self):
        r = self.o.rate_limit
        if not r:
            return True
        now = time.monotonic()
        self.bucket = min(max(r, 1), self.bucket + (now - self.bucket_t) * r)
        self.bucket_t = now
        if self.bucket < 1:
            return False
        self.bucket -= 1
        return True

    def accept(self, sender, rcpts, raw, mid, key, meta):
        self.accepted += 1
        self.bytes += len(raw)
        now = time.time()
        self.first = self.first or now
        self.last = now
        self.mid[mid] += 1
        for r in rcpts:
            self.rcpt[r] += 1
            k = (key, r)
            self.key[k] += 1
            if self.key[k] > 1:
                if self.lost[k] > 0:
                    self.lost[k] -= 1
                    self.excusable += 1
                else:
                    self.inexcusable[k] += 1
        if not self.store:
            return
        self.seq += 1
        base = "%09d" % self.seq
        new, tmp = os.path.join(self.store, "new"), os.path.join(self.store, "tmp")
        meta = dict(meta, mail_from=sender, rcpt_to=rcpts, message_id=mid, time=now, bytes=len(raw))
        for name, data in ((base + ".json", json.dumps(meta).encode()), (base + ".eml", raw)):
            t = os.path.join(tmp, name)
            with open(t, "wb") as f:
                f.write(data)
                if self.o.fsync:
                    f.flush()
                    os.fsync(f.fileno())
            os.rename(t, os.path.join(new, name))   # the .eml last: its presence means 'accepted'
        if self.o.fsync:
            os.fsync(self.dirfd)

    def summary(self):
        def cut(c):
            if self.o.full_maps or len(c) <= 20000:
                return dict(c)
            return {k: v for k, v in c.items() if v != 1}
        span = (self.last - self.first) if self.accepted > 1 else 0
        return {
            "accepted": self.accepted,
            "bytes": self.bytes,
            "unique_recipients": len(self.rcpt),
            "unique_message_ids": len(self.mid),
            "duplicates_total": sum(v - 1 for v in self.key.values()),
            "duplicates_after_lost_ack": self.excusable,
            "duplicates_inexcusable": sum(self.inexcusable.values()),
            "duplicate_message_ids": {k: v for k, v in self.mid.items() if v > 1},
            "inexcusable": {"%s -> %s" % k: v for k, v in self.inexcusable.items()},
            "lost_acks_never_retried": sum(self.lost.values()),
            "per_recipient": cut(self.rcpt),
            "per_message_id": cut(self.mid),
            "attempts_per_recipient": cut(self.attempts),
            "faults": dict(self.faults),
            "replies": {str(k): v for k, v in sorted(self.replies.items())},
            "violations": dict(self.viol),
            "violation_examples": self.viol_example,
            "connections": self.conns,
            "max_simultaneous_connections": self.max_active,
            "messages_per_connection": {str(k): v for k, v in sorted(self.msgs_per_conn.items())},
            "tls": dict(self.tls),
            "auth_ok": self.auth_ok, "auth_bad": self.auth_bad,
            "first_to_last_accept_s": round(span, 4),
            "accepted_per_s": round((self.accepted - 1) / span, 1) if span > 0 else None,
            "uptime_s": round(time.time() - self.t0, 3),
            "seed": self.o.seed,
        }

    def write_summary(self):
        text = json.dumps(self.summary(), indent=1, sort_keys=False) + "\n"
        if self.o.summary:
            d = os.path.dirname(os.path.abspath(self.o.summary))
            fd, t = tempfile.mkstemp(dir=d)
            with os.fdopen(fd, "w") as f:
                f.write(text)
            os.chmod(t, 0o644)
            os.rename(t, self.o.summary)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()


class Conn(asyncio.Protocol):
    def __init__(self, st, tls=False):
        self.st, self.o = st, st.o
        self.tls = tls
        self.buf = b""
        self.wait = False          # a delayed reply is under way: hold back processing
        self.closed = False
        self.upgrading = False
        self.helo = None
        self.esmtp = False
        self.authed = False
        self.auth_step = None
        self.msgs = 0
        self.quit = False
        self.data = None           # bytearray while receiving a message
        self.cut_after = False
        self.mail_failed = False
        self.idle = None
        self.reset()

    def reset(self):
        self.sender = None
        self.params = b""
        self.rcpts = []
        self.body8 = False

    # ---- transport
    def connection_made(self, tr):
        if self.upgrading:          # start_tls calls this again on some versions
            return
        st = self.st
        self.tr = tr
        st.conns += 1
        self.n = st.conns
        st.active += 1
        st.max_active = max(st.max_active, st.active)
        st.log(ev="connect", conn=self.n)
        if self.tls:
            st.tls["implicit " + (tr.get_extra_info("cipher") or ("?", "?"))[1]] += 1
        self.touch()
        if st.in_outage():
            st.faults["outage"] += 1
            return self.reply(421, b"4.3.2 service not available", close=True, at="connect")
        if self.o.max_conns and st.active > self.o.max_conns:
            st.faults["max-conns"] += 1
            return self.reply(421, b"4.7.0 too many connections", close=True, at="connect")
        f = st.pick("connect", "conn%d" % self.n, [("421-connect", self.o.p_421_connect), ("drop-connect", self.o.p_drop_connect)])
        if f == "drop-connect":
            return self.drop()
        if f:
            return self.reply(421, b"4.3.2 try again later", close=True, at="connect")
        self.reply(220, self.o.hostname.encode() + b" ESMTP faultsmtp", at="connect")

    def touch(self):
        self.last = time.monotonic()
        if self.idle is None:
            self.idle = asyncio.get_running_loop().call_later(self.o.idle_s, self.check_idle)

    def check_idle(self):
        left = self.o.idle_s - (time.monotonic() - self.last)
        if self.closed:
            return
        if left > 0 or self.wait:
            self.idle = asyncio.get_running_loop().call_later(max(left, 1), self.check_idle)
        else:
            self.st.faults["idle-close"] += 1
            self.reply(421, b"4.4.2 idle too long", close=True)

    def connection_lost(self, exc):
        if self.closed is True:
            return
        self.closed = True
        if self.idle:
            self.idle.cancel()
        st = self.st
        st.active -= 1
        st.senders.discard(self.n)
        st.msgs_per_conn[self.msgs] += 1
        if not self.quit and not getattr(self, "ours", False) and self.helo is not None:
            st.violation("no QUIT before close")
        st.log(ev="close", conn=self.n, msgs=self.msgs)

    def drop(self):
        """Cuts the connection without a reply: with a FIN (clean EOF) or a RST, as --drop-mode says."""
        mode = self.o.drop_mode
        if mode == "rst" or (mode == "mix" and self.st.chance("dropmode", self.n) < 0.5):
            sock = self.tr.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ours = True
        self.st.log(ev="drop", conn=self.n)
        self.buf = b""
        self.wait = True
        self.tr.abort()

    def data_received(self, d):
        self.last = time.monotonic()
        self.buf += d               # while upgrading: the first text under TLS, kept for later
        if not self.wait:
            self.process()

    # ---- replies
    def reply(self, code, text, close=False, at="", delay=0.0, more=None):
        st = self.st
        lo, hi = st.delay
        if hi and at and (at in st.delay_at or "all" in st.delay_at):
            st.delay_n += 1
            delay += lo + (hi - lo) * st.chance("delay", st.delay_n)
        if delay:
            self.wait = True
            asyncio.get_running_loop().call_later(delay, self.send, code, text, close, more, True)
        else:
            self.send(code, text, close, more, False)

    def send(self, code, text, close, more, resume):
        if self.closed:
            return
        self.st.replies[code] += 1
        if more:
            lines = [b"%d-%s" % (code, x) for x in [text] + more[:-1]] + [b"%d %s" % (code, more[-1])]
            self.tr.write(b"\r\n".join(lines) + b"\r\n")
        else:
            self.tr.write(b"%d %s\r\n" % (code, text))
        if close:
            self.ours = True
            self.wait = True
            self.buf = b""
            self.tr.close()
            return
        if resume:
            self.wait = False
            self.process()

    # ---- parsing
    def process(self):
        while not self.wait and not self.closed:
            if self.data is not None:
                if not self.in_data():
                    return
                continue
            i = self.buf.find(b"\n")
            if i < 0:
                if len(self.buf) > 65536:
                    self.st.violation("command line over 64 KiB")
                    return self.drop()
                return
            line, self.buf = self.buf[:i], self.buf[i + 1:]
            if line.endswith(b"\r"):
                line = line[:-1]
            else:
                self.st.violation("bare LF in command", line)
            if self.auth_step:
                self.auth_step(line)
                continue
            if len(line) > 510:
                self.st.violation("command over 512 octets", line)
            if self.buf and self.o.no_pipelining:
                self.st.violation("pipelining though not offered", line)
            self.command(line)

    def command(self, line):
        verb, _, arg = line.partition(b" ")
        v = verb.upper()
        h = {b"EHLO": self.c_ehlo, b"HELO": self.c_ehlo, b"MAIL": self.c_mail, b"RCPT": self.c_rcpt, b"DATA": self.c_data,
             b"RSET": self.c_rset, b"NOOP": self.c_noop, b"QUIT": self.c_quit, b"STARTTLS": self.c_starttls,
             b"AUTH": self.c_auth, b"VRFY": self.c_vrfy, b"HELP": self.c_noop}.get(v)
        if h is None:
            self.st.violation("unknown command", line)
            return self.reply(500, b"5.5.2 unknown command")
        h(v, arg)

    def c_ehlo(self, v, arg):
        if not arg.strip():
            self.st.violation("EHLO without a name")
        if v == b"EHLO" and self.o.no_ehlo:
            return self.reply(502, b"5.5.1 EHLO not implemented")
        self.helo, self.esmtp = arg.decode("ascii", "replace"), v == b"EHLO"
        self.st.log(ev="hello", conn=self.n, name=self.helo)
        self.reset()
        if v == b"HELO":
            return self.reply(250, self.o.hostname.encode(), at="ehlo")
        ext = self.st.ehlo_cache.get(self.tls)
        if ext is None:
            o = self.o
            ext = [b"SIZE %d" % o.size_limit, b"ENHANCEDSTATUSCODES"]
            ext += [] if o.no_pipelining else [b"PIPELINING"]
            ext += [] if o.no_8bitmime else [b"8BITMIME"]
            ext += [] if o.no_smtputf8 else [b"SMTPUTF8"]
            if o.starttls and not self.tls and not o.strip_starttls:
                ext.append(b"STARTTLS")
            if o.auth and (self.tls or not o.auth_only_tls):
                ext.append(b"AUTH " + o.auth_mechs.encode())
            self.st.ehlo_cache[self.tls] = ext
        self.reply(250, self.o.hostname.encode(), more=ext, at="ehlo")

    def c_mail(self, v, arg):
        st, o = self.st, self.o
        if self.helo is None:
            st.violation("MAIL before EHLO")
            return self.reply(503, b"5.5.1 EHLO first")
        if o.require_tls and not self.tls:
            return self.reply(530, b"5.7.0 must issue STARTTLS first")
        if o.require_auth and not self.authed:
            return self.reply(530, b"5.7.0 authentication required")
        if self.sender is not None:
            st.violation("nested MAIL")
            return self.reply(503, b"5.5.1 nested MAIL")
        if o.max_msgs_per_conn and self.msgs >= o.max_msgs_per_conn:
            st.faults["max-msgs-per-conn"] += 1
            return self.reply(421, b"4.7.0 too many messages in this session", close=True, at="mail")
        m = ADDR.match(arg[5:].lstrip()) if arg[:5].upper() == b"FROM:" else None
        if not m:
            st.violation("bad MAIL syntax", arg)
            return self.reply(501, b"5.5.4 bad MAIL syntax")
        if arg[5:6] == b" ":
            st.violation("space after MAIL FROM:", arg)
        params = m.group(2).upper().split()
        for p in params:
            if p.startswith(b"SIZE=") and p[5:].isdigit() and int(p[5:]) > o.size_limit:
                st.faults["size"] += 1
                return self.reply(552, b"5.3.4 message too big")
        if any(c > 127 for c in m.group(1)) and b"SMTPUTF8" not in params:
            st.violation("8-bit sender without SMTPUTF8", arg)
        self.smtputf8 = b"SMTPUTF8" in params
        if self.smtputf8 and o.no_smtputf8:
            st.violation("SMTPUTF8 is not offered", arg)
        if not st.rate_ok():
            st.faults["rate-limit"] += 1
            self.mail_failed = True
            return self.reply(450, b"4.7.1 rate limit, slow down", at="mail")
        if o.p_451_mail and st.pick("mail", m.group(1).decode("utf-8", "replace"), [("451-mail", o.p_451_mail)]):
            self.mail_failed = True
            return self.reply(451, b"4.3.0 try again later", at="mail")
        self.mail_failed = False
        self.sender = m.group(1).decode("utf-8", "surrogateescape")
        self.body8 = b"BODY=8BITMIME" in params
        self.reply(250, b"2.1.0 ok", at="mail")

    def c_rcpt(self, v, arg):
        st, o = self.st, self.o
        if self.sender is None:
            if not self.mail_failed:
                st.violation("RCPT before MAIL")
            return self.reply(503, b"5.5.1 MAIL first")
        m = ADDR.match(arg[3:].lstrip()) if arg[:3].upper() == b"TO:" else None
        if not m or not m.group(1):
            st.violation("bad RCPT syntax", arg)
            return self.reply(501, b"5.5.4 bad RCPT syntax")
        r = m.group(1).decode("utf-8", "surrogateescape")
        if not r.isascii() and not self.smtputf8:
            st.violation("8-bit recipient without SMTPUTF8", arg)
            return self.reply(553, b"5.6.7 non-ASCII address without SMTPUTF8", at="rcpt")
        st.attempts[r] += 1
        n = st.attempts[r]
        if any(x.search(r) for x in st.reject):
            st.faults["550-pattern"] += 1
            code, _, text = o.rcpt_refusal.replace("_", " ").partition(" ")
            st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=int(code))
            return self.reply(int(code), text.encode(), at="rcpt")
        if o.p_550_rcpt and st.chance("550", r) < o.p_550_rcpt:
            st.faults["550-rcpt"] += 1
            st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=550)
            return self.reply(550, b"5.1.1 no such user", at="rcpt")
        if any(x.search(r) for x in st.temp):
            st.faults["450-pattern"] += 1
            st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=450)
            return self.reply(450, b"4.2.0 mailbox busy", at="rcpt")
        if n <= o.greylist:
            st.faults["greylist"] += 1
            st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=450)
            return self.reply(450, b"4.7.1 greylisted, try again later", at="rcpt")
        if o.max_rcpts and len(self.rcpts) >= o.max_rcpts:
            st.faults["max-rcpts"] += 1
            return self.reply(452, b"4.5.3 too many recipients", at="rcpt")
        f = st.pick("rcpt", r, [("450-rcpt", o.p_450_rcpt), ("451-rcpt", o.p_451_rcpt), ("452-rcpt", o.p_452_rcpt), ("stall", o.p_stall)])
        if f and f != "stall":
            st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=int(f[:3]))
            return self.reply(int(f[:3]), {"450": b"4.2.0 mailbox busy", "451": b"4.3.0 local error", "452": b"4.2.2 mailbox full"}[f[:3]], at="rcpt")
        st.log(ev="rcpt", conn=self.n, rcpt=r, n=n, code=250, stall=f == "stall")
        self.rcpts.append(r)
        self.reply(250, b"2.1.5 ok", at="rcpt", delay=o.stall_s if f == "stall" else 0)

    def c_data(self, v, arg):
        st, o = self.st, self.o
        if not self.rcpts:
            return self.reply(503 if self.sender is None else 554, b"5.5.1 no valid recipients")
        if o.max_senders_at == "data" and self.exceeds_senders():
            return self.reply(432, SENDERS_EXCEEDED, at="data")
        if o.p_451_data and st.pick("data", ",".join(self.rcpts), [("451-data", o.p_451_data)]):
            return self.reply(451, b"4.3.0 try again later", at="data")
        if o.p_drop_data and st.pick("dropdata", ",".join(self.rcpts), [("drop-data", o.p_drop_data)]):
            self.cut_after = True
        else:
            self.cut_after = False
        if self.buf:
            st.violation("text sent before the 354")
        self.data = bytearray()
        self.reply(354, b"end with <CRLF>.<CRLF>", at="data")

    def exceeds_senders(self):
        st, limit = self.st, self.o.max_senders
        if not limit or self.n in st.senders:
            return False
        if len(st.senders) < limit:
            st.senders.add(self.n)
            return False
        st.faults["max-senders"] += 1
        return True

    def in_data(self):
        """Consumes the buffer in DATA mode; True once the message is complete."""
        if self.cut_after:
            if self.buf:
                self.data = None
                self.drop()
            return False
        d = self.data
        start = max(0, len(d) - 4)
        d += self.buf
        self.buf = b""
        if d.startswith(b".\r\n"):
            raw, self.buf = b"", bytes(d[3:])
        else:
            j = d.find(CRLF_DOT, start)
            if j < 0:
                if len(d) > 8 * self.o.size_limit:
                    self.drop()
                return False
            raw, self.buf = bytes(d[:j + 2]), bytes(d[j + 5:])
        self.data = None
        self.finish(raw)
        return True

    def finish(self, raw):
        st, o = self.st, self.o
        if b"\r\n." in raw or raw.startswith(b"."):
            raw = raw[1:] if raw.startswith(b".") else raw
            raw = raw.replace(b"\r\n.", b"\r\n")
        if raw.count(b"\n") != raw.count(b"\r\n"):
            st.violation("bare LF in message text")
        if raw.count(b"\r") != raw.count(b"\r\n"):
            st.violation("bare CR in message text")
        if len(raw) > 998 and max(map(len, raw.split(b"\r\n"))) > 998:
            st.violation("line over 998 octets")
        if b"\0" in raw:
            st.violation("NUL in message text")
        if not self.body8 and not raw.isascii():
            st.violation("8-bit text without BODY=8BITMIME")
        sender, rcpts = self.sender, self.rcpts
        head = raw.partition(b"\r\n\r\n")[0]
        mid = self.header(head, b"message-id")
        if not mid:
            st.violation("no Message-ID")
            mid = "(none)"
        if not self.header(head, b"date"):
            st.violation("no Date")
        key = self.header(head, o.key_header.lower().encode()) if o.key_header else mid
        self.reset()
        if len(raw) > o.size_limit:
            st.faults["size"] += 1
            return self.reply(552, b"5.3.4 message too big", at="final")
        ident = key + "|" + ",".join(rcpts)
        if o.max_senders_at == "final" and self.exceeds_senders():
            return self.reply(432, SENDERS_EXCEEDED, at="final")
        if o.final_refusal:
            code, _, text = o.final_refusal.replace("_", " ").partition(" ")
            st.log(ev="final", conn=self.n, code=int(code))
            return self.reply(int(code), text.encode(), at="final")
        f = st.pick("final", ident, [("451-final", o.p_451_final), ("452-final", o.p_452_final), ("554-final", o.p_554_final),
                                     ("421-final", o.p_421_final), ("drop-before", o.p_drop_before),
                                     ("drop-after", o.p_drop_after), ("stall-final", o.p_stall_final)])
        st.log(ev="final", conn=self.n, rcpts=rcpts, mid=mid, fault=f)
        if f == "451-final":
            return self.reply(451, b"4.3.0 local error", at="final")
        if f == "452-final":
            return self.reply(452, b"4.3.1 insufficient storage", at="final")
        if f == "554-final":
            return self.reply(554, b"5.7.1 content refused", at="final")
        if f == "421-final":
            return self.reply(421, b"4.3.2 shutting down", close=True, at="final")
        if f == "drop-before":
            return self.drop()
        self.msgs += 1
        st.accept(sender, rcpts, raw, mid, key, {"conn": self.n, "helo": self.helo, "tls": self.tls, "auth": self.authed})
        if f in ("drop-after", "stall-final"):
            for r in rcpts:
                st.lost[key, r] += 1
        if f == "drop-after":
            return self.drop()
        self.reply(250, b"2.0.0 accepted", at="final", delay=o.stall_s if f == "stall-final" else 0)

    @staticmethod
    def header(head, name):
        low = b"\r\n" + head.lower()
        i = low.find(b"\r\n" + name + b":")
        if i < 0:
            return ""
        i += len(name) + 1                     # offset in head: the \r\n put in front is not there
        j = i
        while True:
            j = head.find(b"\r\n", j)
            if j < 0:
                j = len(head)
                break
            if head[j + 2:j + 3] not in (b" ", b"\t"):
                break
            j += 2
        return b" ".join(head[i:j].split()).decode("utf-8", "replace")

    def c_rset(self, v, arg):
        self.reset()
        self.reply(250, b"2.0.0 ok")

    def c_noop(self, v, arg):
        self.reply(250, b"2.0.0 ok")

    def c_vrfy(self, v, arg):
        self.reply(252, b"2.1.5 send some mail, I will try my best")

    def c_quit(self, v, arg):
        self.quit = True
        self.reply(221, b"2.0.0 bye", close=True)

    # ---- STARTTLS
    def c_starttls(self, v, arg):
        o, st = self.o, self.st
        if not o.starttls or o.strip_starttls or self.tls:
            return self.reply(502, b"5.5.1 STARTTLS not available")
        if st.pick("tls", "conn%d" % self.n, [("454-tls", o.p_454_tls)]):
            return self.reply(454, b"4.7.0 TLS not available now")
        if self.buf:
            st.violation("text after STARTTLS before the handshake", self.buf)
            self.buf = b""
        self.tr.pause_reading()     # a fast client's handshake must not come here in the clear
        self.send(220, b"2.0.0 ready", False, None, False)
        self.wait = self.upgrading = True
        asyncio.get_running_loop().create_task(self.upgrade())

    async def upgrade(self):
        try:
            tr = await asyncio.get_running_loop().start_tls(self.tr, self, self.st.ctx, server_side=True, ssl_handshake_timeout=20)
        except Exception as e:                      # the client refused the certificate, or cut
            self.st.tls["failed: " + type(e).__name__] += 1
            self.ours = True
            self.upgrading = False
            self.tr.abort()
            if not self.closed:
                self.connection_lost(e)
            return
        if tr is None:
            return
        self.tr = tr
        self.tls, self.upgrading, self.wait = True, False, False
        self.helo, self.authed = None, False
        self.reset()
        self.st.tls["starttls " + tr.get_extra_info("cipher")[1]] += 1
        self.process()

    # ---- AUTH
    def c_auth(self, v, arg):
        o, st = self.o, self.st
        if not o.auth:
            return self.reply(502, b"5.5.1 AUTH not available")
        if o.require_tls and not self.tls:
            return self.reply(530, b"5.7.0 must issue STARTTLS first")
        if not self.tls:
            st.viol["(note) AUTH in clear text"] += 1
        if self.authed:
            return self.reply(503, b"5.5.1 already authenticated")
        mech, _, init = arg.partition(b" ")
        mech = mech.upper()
        if mech.decode() not in o.auth_mechs.split():
            return self.reply(504, b"5.5.4 mechanism not supported")
        if st.pick("auth", "conn%d" % self.n, [("454-auth", o.p_454_auth)]):
            return self.reply(454, b"4.7.0 temporary authentication failure")
        if mech == b"PLAIN":
            if init:
                return self.auth_plain(init)
            self.auth_step = self.auth_plain
            return self.reply(334, b"")
        if mech == b"LOGIN":
            if init:
                return self.auth_user(init)
            self.auth_step = self.auth_user
            return self.reply(334, b"VXNlcm5hbWU6")
        return self.reply(504, b"5.5.4 mechanism not supported")

    @staticmethod
    def b64(x):
        try:
            return base64.b64decode(x, validate=True).decode("utf-8", "replace")
        except Exception:
            return None

    def auth_plain(self, line):
        self.auth_step = None
        x = self.b64(b"" if line == b"=" else line)
        parts = (x or "").split("\0")
        self.auth_end(len(parts) == 3 and parts[1] + ":" + parts[2] == self.o.auth)

    def auth_user(self, line):
        self.user = self.b64(line)
        self.auth_step = self.auth_pass
        self.reply(334, b"UGFzc3dvcmQ6")

    def auth_pass(self, line):
        self.auth_step = None
        self.auth_end(self.user is not None and "%s:%s" % (self.user, self.b64(line)) == self.o.auth)

    def auth_end(self, ok):
        if ok:
            self.authed = True
            self.st.auth_ok += 1
            self.reply(235, b"2.7.0 authenticated")
        else:
            self.st.auth_bad += 1
            self.reply(535, b"5.7.8 authentication failed")


def make_cert(o):
    d = o.cert_dir or tempfile.mkdtemp(prefix="faultsmtp-")
    os.makedirs(d, exist_ok=True)
    cert, key = os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")
    if not os.path.exists(cert):
        names = o.cert_name.split(",")
        san = ",".join(("IP:" if re.fullmatch(r"[0-9.]+|.*:.*", n) else "DNS:") + n for n in names)
        cmd = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
               "-out", cert, "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + san]
        if o.cert_days >= 0:
            subprocess.run(cmd + ["-days", str(o.cert_days)], check=True, capture_output=True)
        else:   # an expired one: openssl req cannot, so sign a request with fixed dates
            csr, db = os.path.join(d, "r.csr"), os.path.join(d, "ca.cnf")
            subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                            "-out", csr, "-subj", "/CN=" + names[0]], check=True, capture_output=True)
            open(os.path.join(d, "index.txt"), "w").close()
            with open(db, "w") as f:
                f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index.txt\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\n"
                        "policy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=%s\n" % (d, d, san))
            subprocess.run(["openssl", "ca", "-batch", "-config", db, "-selfsign", "-keyfile", key, "-in", csr, "-out", cert, "-notext",
                            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"], check=True, capture_output=True)
    return cert, key


async def main(o):
    st = State(o)
    if o.starttls or o.implicit_tls:
        cert, key = (o.cert, o.key) if o.cert else make_cert(o)
        st.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        st.ctx.minimum_version = ssl.TLSVersion.TLSv1_2
        st.ctx.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for s in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(s, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, st.write_summary)
    try:
        srv = await loop.create_server(lambda: Conn(st, o.implicit_tls), o.host, o.port, backlog=1024,
                                       ssl=st.ctx if o.implicit_tls else None, reuse_address=True)
    except OSError as e:
        print("faultsmtp: %s" % e, file=sys.stderr)
        return 3
    port = srv.sockets[0].getsockname()[1]
    if o.port_file:
        with open(o.port_file + ".tmp", "w") as f:
            f.write("%d\n" % port)
        os.rename(o.port_file + ".tmp", o.port_file)
    print("faultsmtp: listening on %s:%d%s" % (o.host, port, " cert " + cert if st.ctx else ""), file=sys.stderr, flush=True)
    await stop.wait()
    srv.close()
    st.write_summary()
    return 0


if __name__ == "__main__":
    opts = build_parser().parse_args()
    code = asyncio.run(main(opts))
    sys.stdout.flush()
    os._exit(code)
