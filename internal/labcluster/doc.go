// Package labcluster is a whole Lifeboat in a lab: management nodes, agents on
// real libvirt hosts, real qemu guests, fenced through real IPMI simulators.
//
// Up starts the program that is given to it and configures it as an operator
// would, through files, the API and libvirt's hook. What happens then is asked of the API, of
// the kernel (lab.Copies) and of the guests themselves (lab.SplitBrains).
//
// Callers: the lab tests of this package, cmd/lifeboat-lab. Their main functions
// call lab.MaybeInit first.
package labcluster
