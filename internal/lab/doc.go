// Package lab runs several real libvirt hosts with real qemu guests on one
// machine, and breaks them on purpose.
//
// A host is a set of namespaces (net, mount, PID, UTS, IPC) whose PID 1 is this
// same binary: killing PID 1 is pulling the power cord. Every host has a
// libvirtd, a BMC that speaks IPMI 2.0 (ipmi_sim), a watchdog that outlives a
// frozen host, and a network cable that can be cut. Management nodes get a
// network namespace each, connected to the hosts' network and to the BMCs'.
// All addresses live in namespaces the lab made; the root network namespace
// gets no interface and no route.
//
// What is real: libvirtd, qemu (TCG, no hardware virtualisation), the guests'
// kernel, TCP, IPMI. What is not: /dev/watchdog (a unix socket stands in, see
// [WatchdogSocket]), wall clocks per host, and host memory (every host reports
// the whole machine's).
//
// # A worked example
//
// Three managers, of which m3 shares h3's machine, three hosts with an agent
// and a guest each; then h1 loses its power, and m3 with h3. A test runs the
// same steps without lifeboat's own programs.
//
//	lab.MaybeInit()                             // first in main or TestMain
//	err := lab.Setup(ctx, os.Stderr)            // says what to install; fetches the guests' kernel
//	l, err := lab.New(ctx, lab.Options{Prefix: "demo", Hosts: 3, Managers: 3, ManagerOn: map[int]int{3: 3}, Log: os.Stderr})
//	defer l.Close()
//	for m := 1; m <= 3; m++ {                   // binds l.ManagerAddr(m), keeps its data in l.ManagerDir(m)
//		conf := writeServerConfig(l.ManagerDir(m), l.ManagerAddr(m))
//		server[m], err = l.StartInManager(m, "server", exec.Command(lifeboat, "server", "--config", conf))
//	}
//	for n := 1; n <= 3; n++ {                   // the fence level of host n, and how its BMC proves which machine it is
//		writeAgentConfig(l.HostDir(n), l.HostAddr(n), lab.BootIDFile, lab.WatchdogSocket, l.SharedDir())
//		fenceLevel(n, "ipmi", l.BMCAddr(n), lab.BMCUser, lab.BMCPassword, l.BMCGUID(n))
//	}
//	l.OnBoot(func(n int) {                      // now, and after every power on
//		agent, err := l.Start(n, "agent", exec.Command(lifeboat, "agent", "--config", l.HostDir(n)+"/agent.yaml"))
//	})
//	for n := 1; n <= 3; n++ {                   // Shareable: nothing but lifeboat prevents a second start
//		disk, err := l.AddDisk(fmt.Sprint("web", n)) // a file in l.SharedDir(), which all hosts see
//		err = l.StartGuest(ctx, n, lab.GuestSpec{Name: fmt.Sprint("web", n), Disk: disk, Shareable: true, Metadata: protect})
//		beat, err := l.WaitBeat(ctx, n, fmt.Sprint("web", n))
//	}
//	err = l.PowerCut(ctx, 1)                    // h1, its agent and guest: gone without a FIN
//	beat, err := l.WaitBeat(ctx, 2, "web1")     // if that is where lifeboat started it again
//	err = l.PowerCut(ctx, 3)                    // m3 dies with h3's machine
//	hosts := l.Copies("web3")                   // by the kernel's word: [1] or [2], never two
//	found, err := l.SplitBrains()               // by the guests' own word: none
//	out, err := l.ExecInManager(ctx, 1, lifeboat, "status", "--addr", l.ManagerAddr(1)+":7400")
//	server[1].Kill()                            // kill -9; server[1].LogPath() has its output
//
// # Contract
//
// The program or TestMain that uses the lab calls [MaybeInit] before anything
// else, because the lab starts that program again as PID 1 of its hosts. The
// lab needs root; [Check] says what else is not there, [Require] turns that
// into a skipped test (or, with LIFEBOAT_LAB=1, a failed one), [Setup] into
// instructions, and deploy/lab/install.sh into packages. [Lab.Close] leaves
// nothing behind, and [New] removes what a killed lab with the same prefix left.
//
// A host sees the real machine's file system, so programs and shared files have
// the same paths inside and outside. Its own are /run, /dev, /proc, the
// libvirt directories, /var/lib/lifeboat, /etc/hosts and /etc/machine-id.
// libvirtd looks for hooks when it starts: after installing the first one, call
// [Lab.StopLibvirtd] and [Lab.StartLibvirtd].
//
// All methods of [Lab] may be called from several goroutines at once. Hosts and
// managers are numbered from 1.
//
// Used by lab tests and by the command that shows the lab. No other package may
// import it.
package lab
