package configfile

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// account is who will run the process.
type account struct {
	name string
	uid  uint32
	gids []uint32
}

// serviceUser runs the server where it was installed from a package.
const serviceUser = "lifeboat"

// runner is the account that the process will run as.
func runner(kind Kind, name string) (account, error) {
	if name == "" && kind == Server && os.Geteuid() == 0 {
		if _, err := user.Lookup(serviceUser); err == nil {
			name = serviceUser
		}
	}
	if name == "" {
		a := account{name: "this user", uid: uint32(os.Geteuid()), gids: []uint32{uint32(os.Getegid())}}
		groups, err := os.Getgroups()
		if err != nil {
			return account{}, fmt.Errorf("read own groups: %w", err)
		}
		for _, g := range groups {
			a.gids = append(a.gids, uint32(g))
		}
		return a, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("look up the user that runs it: %w", err)
	}
	a := account{name: name}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	a.uid = uint32(uid)
	groups, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("look up the groups of %s: %w", name, err)
	}
	for _, g := range groups {
		gid, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("look up the groups of %s: %w", name, err)
		}
		a.gids = append(a.gids, uint32(gid))
	}
	return a, nil
}

const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// may reports whether the account may do something with a file, by its owner and
// mode. Access control lists are not looked at.
func (a account) may(want fs.FileMode, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || a.uid == 0 {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case st.Uid == a.uid:
		return mode>>6&want == want
	case slices.Contains(a.gids, st.Gid):
		return mode>>3&want == want
	}
	return mode&want == want
}

// reach says what keeps the account from doing something with a path, in words;
// empty: nothing does. The file must be there.
func (a account) reach(want fs.FileMode, path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && !a.may(mayEnter, info) {
			return fmt.Sprintf("%s may not enter %s (mode %s)", a.name, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	if !a.may(want, info) {
		verb := "read"
		if want&mayWrite != 0 {
			verb = "write to"
		}
		return fmt.Sprintf("%s may not %s %s (mode %s)", a.name, verb, path, info.Mode().Perm())
	}
	return ""
}
