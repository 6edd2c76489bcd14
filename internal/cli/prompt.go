package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxSecret bounds a password file: longer is the wrong file.
const maxSecret = 4096

// AskLine prints the prompt to stderr and reads one line of stdin. It returns
// early when ctx ends; the abandoned read then ends with the process.
func AskLine(ctx context.Context, env *Env, prompt string) (string, error) {
	fmt.Fprint(env.Stderr, prompt)
	return await(ctx, func() (string, error) {
		line, err := bufio.NewReader(env.Stdin).ReadString('\n')
		if err != nil && !(errors.Is(err, io.EOF) && line != "") {
			return "", fmt.Errorf("read answer: %w", err)
		}
		return strings.TrimSpace(line), nil
	})
}

// PasswordReader asks for passwords on a terminal, without echo. Nil when f is
// not a terminal.
func PasswordReader(f *os.File, stderr io.Writer) func(context.Context, string) (string, error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	return func(ctx context.Context, prompt string) (string, error) {
		before, err := term.GetState(fd)
		if err != nil {
			return "", fmt.Errorf("ask for password: %w", err)
		}
		fmt.Fprint(stderr, prompt)
		defer fmt.Fprintln(stderr)
		secret, err := await(ctx, func() (string, error) {
			b, err := term.ReadPassword(fd)
			return string(b), err
		})
		if ctx.Err() != nil {
			// The read is still there, and with it the terminal without echo.
			err = errors.Join(err, term.Restore(fd, before))
		}
		if err != nil {
			return "", fmt.Errorf("ask for password: %w", err)
		}
		return secret, nil
	}
}

// ReadSecret reads a password from a file, "-" for stdin, without the newline
// at its end.
func ReadSecret(env *Env, path string) (string, error) {
	in := env.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", Usage("check the path", "read password: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	switch secret := strings.TrimRight(string(data), "\r\n"); {
	case err != nil:
		return "", fmt.Errorf("read password from %s: %w", path, err)
	case len(data) > maxSecret:
		return "", Usage("", "read password from %s: it is longer than %d bytes, this is not a password file", path, maxSecret)
	case secret == "":
		return "", Usage("put the password on its first line", "read password from %s: it is empty", path)
	case strings.ContainsAny(secret, "\r\n"):
		return "", Usage("put the password alone into the file", "read password from %s: it has several lines", path)
	default:
		return secret, nil
	}
}

// await runs a blocking read and stops waiting for it when ctx ends.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
