"""Counts a CTest report in JUnit form: prints "passed failed skipped", then one line for each skip."""
import sys
import xml.etree.ElementTree


def main():
    passed = failed = 0
    skips = []
    for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        status = case.get("status")
        if status == "run":
            passed += 1
        elif status in ("notrun", "disabled"):
            # CTest says notrun for a skip and for a test whose program is missing; only the first is fine.
            skipped = case.find("skipped")
            reason = skipped.get("message", "") if skipped is not None else ""
            if reason.startswith("SKIP_"):
                output = (case.findtext("system-out") or "").strip().splitlines()
                skips.append(f"skipped: {case.get('name')}: {output[-1] if output else 'no reason given'}")
            elif status == "disabled":
                skips.append(f"skipped: {case.get('name')}: disabled")
            else:
                failed += 1
        else:
            failed += 1
    print(passed, failed, len(skips))
    for line in skips:
        print(line)


if __name__ == "__main__":
    main()
