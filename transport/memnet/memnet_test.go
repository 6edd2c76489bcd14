package memnet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/transport/memnet"
)

// pair is a connection from machine a to machine b.
func pair(t *testing.T, n *memnet.Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = n.Dial(t.Context(), "a", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("got %v, want a timeout", err)
	}
}

func TestStreamKeepsEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		n.SetLatency(time.Millisecond)
		a, b := pair(t, n)
		sent := make([]byte, 3<<20) // many send buffers
		rand.Read(sent)
		go func() {
			for rest := sent; len(rest) > 0; {
				k := min(len(rest), 70_001)
				if _, err := a.Write(rest[:k]); err != nil {
					t.Error(err)
				}
				rest = rest[k:]
			}
			a.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("read %d of %d bytes, error %v", len(got), len(sent), err)
		}
	})
}

func TestLatencyDelaysDataAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		n.SetLatency(30 * time.Millisecond)
		start := time.Now()
		a.Write([]byte("x"))
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil || time.Since(start) != 30*time.Millisecond {
			t.Fatalf("after %v, error %v", time.Since(start), err)
		}
		a.Close()
		if _, err := b.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != 60*time.Millisecond {
			t.Fatalf("after %v, error %v", time.Since(start), err)
		}
	})
}

func TestCutHoldsOneDirectionUntilHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		n.Cut("a", "b")
		a.Write([]byte("held"))
		b.SetReadDeadline(time.Now().Add(time.Second))
		_, err := b.Read(make([]byte, 8))
		wantTimeout(t, err)
		b.SetReadDeadline(time.Time{})

		b.Write([]byte("back"))
		buf := make([]byte, 8)
		if k, err := a.Read(buf); err != nil || string(buf[:k]) != "back" {
			t.Fatalf("the other direction: %q, %v", buf[:k], err)
		}
		time.AfterFunc(time.Minute, func() { n.Heal("a", "b") })
		if k, err := b.Read(buf); err != nil || string(buf[:k]) != "held" {
			t.Fatalf("after healing: %q, %v", buf[:k], err)
		}
		// A connection cannot be made when either direction is cut.
		n.Cut("b", "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Dial(ctx, "a", "b:2")
		wantTimeout(t, err)
	})
}

func TestCutWriterBlocksWhenTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, _ := pair(t, n)
		n.Cut("a", "b")
		a.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := a.Write(make([]byte, 1<<20))
		wantTimeout(t, err)
		if k == 0 || k == 1<<20 {
			t.Fatalf("wrote %d bytes", k)
		}
	})
}

func TestPowerLossIsSilentUntilRevived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		b.Write([]byte("lost on the way"))
		n.Kill("b", memnet.PowerLoss)
		if _, err := a.Write([]byte("into the void")); err != nil {
			t.Fatal("a write must not notice:", err)
		}
		a.SetReadDeadline(time.Now().Add(time.Hour))
		_, err := a.Read(make([]byte, 1))
		wantTimeout(t, err)
		a.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Dial(ctx, "a", "b:1")
		wantTimeout(t, err)

		time.AfterFunc(time.Second, func() { n.Revive("b") })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("got %v, want a reset", err)
		}
	})
}

func TestCrashResetsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, _ := pair(t, n)
		l, err := n.Listen("b:7")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { n.Kill("b", memnet.Crash) })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("got %v, want a reset", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("its listener: %v", err)
		}
		if _, err := n.Dial(t.Context(), "a", "b:7"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v, want a refusal", err)
		}
		if _, err := n.Listen("b:7"); err == nil {
			t.Fatal("a dead machine listens")
		}
	})
}

func TestDeadlineWakesAWaitingReaderAndWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pair(t, memnet.New())
		time.AfterFunc(time.Second, func() { a.SetDeadline(time.Now()) })
		_, err := a.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		a.SetDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { a.Close() })
		if _, err := a.Write(make([]byte, 1<<20)); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestAddressInUse(t *testing.T) {
	n := memnet.New()
	l, err := n.Listen("a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("a:1"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	l.Close()
	if _, err := n.Listen("a:1"); err != nil {
		t.Fatal(err)
	}
}
