package fsm

import "fmt"

// Role is what an operator may do. A greater one may do all that a smaller may.
// The numbers are the log's.
type Role uint8

const (
	RoleNone     Role = iota // nothing: it was taken away
	RoleViewer               // looks
	RoleOperator             // runs VMs, hosts, alerts and HA
	RoleAdmin                // changes what the cluster is: its policy, nodes, fences, tokens, operators
)

func (r Role) String() string { return name(int(r), "none", "viewer", "operator", "admin") }

// ParseRole reads a role.
func ParseRole(s string) (Role, error) {
	for r := RoleNone; r <= RoleAdmin; r++ {
		if r.String() == s {
			return r, nil
		}
	}
	return RoleNone, fmt.Errorf("%q is no role; it is viewer, operator, admin or none", s)
}

// Operator is a person or program whose role the cluster knows.
type Operator struct {
	Name  string
	Role  Role
	Since int64 // unix ns
	By    string
}

// lockout says that nobody would be an administrator any more if operators to whom
// nobody gave a role had one, and who another; "" = somebody would. An empty who
// changes nobody.
func (s *State) lockout(unknown Role, who string, role Role) string {
	if unknown == RoleAdmin || who != "" && role == RoleAdmin {
		return ""
	}
	for name, o := range s.operators.all() {
		if name != who && o.Role == RoleAdmin {
			return ""
		}
	}
	return "nobody would be an administrator any more; first give somebody the role: `lifeboat operator set NAME admin`"
}

// maxOperators bounds how many are known.
const maxOperators = 1000

// RoleOf is what an operator with a valid certificate may do. One that nobody has
// given a role has that of the policy unknown_operator.
func (s *State) RoleOf(name string) Role {
	if o := s.Operator(name); o != nil {
		return o.Role
	}
	return s.Policy.UnknownOperator
}
