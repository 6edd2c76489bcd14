package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// control is the lab's side of the power buttons: BMCs and watchdogs are
// processes of their own, and ask for power changes over this socket. One
// request line per connection; the answer is "ok TEXT" or "error TEXT".
type control struct {
	listener net.Listener
	serving  sync.WaitGroup
}

func controlSocket(run string) string { return filepath.Join(run, "control.sock") }

func serveControl(l *Lab) (*control, error) {
	ln, err := net.Listen("unix", controlSocket(l.run))
	if err != nil {
		return nil, fmt.Errorf("listen for power buttons: %w", err)
	}
	c := &control{listener: ln}
	c.serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			c.serving.Go(func() {
				defer conn.Close()
				c.serve(l, conn)
			})
		}
	})
	return c, nil
}

func (c *control) serve(l *Lab, conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err != nil {
		return
	}
	answer, err := l.button(strings.Fields(line))
	if err != nil {
		fmt.Fprintf(conn, "error %s\n", err)
		return
	}
	fmt.Fprintf(conn, "ok %s\n", answer)
}

// stop refuses further requests and waits for those being served. Nil-safe.
func (c *control) stop() {
	if c == nil {
		return
	}
	_ = c.listener.Close()
	c.serving.Wait()
}

// button carries out one request: "watchdog N", or "chassis N get power" and
// "chassis N set power 0" in the words of ipmi_sim.
func (l *Lab) button(words []string) (string, error) {
	if len(words) < 2 {
		return "", errors.New("incomplete request")
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return "", fmt.Errorf("host %q is no number", words[1])
	}
	h, err := l.host(n)
	if err != nil {
		return "", err
	}
	switch {
	case words[0] == "watchdog" && len(words) == 2:
		l.logf("%s: watchdog starved", h.name)
		return "", l.Reset(context.Background(), n)
	case words[0] == "chassis" && len(words) > 2:
		return l.chassis(h, words[2:])
	}
	return "", fmt.Errorf("unknown request %q", strings.Join(words, " "))
}

// ask sends one request to the lab and returns the answer's text.
func ask(socket, request string) (string, error) {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return "", fmt.Errorf("ask lab: %w", err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, request); err != nil {
		return "", fmt.Errorf("ask lab: %w", err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("ask lab: %w", err)
	}
	status, text, _ := strings.Cut(strings.TrimSpace(string(answer)), " ")
	if status != "ok" {
		return "", fmt.Errorf("lab refused: %s", text)
	}
	return text, nil
}
