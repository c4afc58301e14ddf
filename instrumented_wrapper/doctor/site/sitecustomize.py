"""Python imports this at its start in the programs that the doctor runs."""

from instrumented_wrapper.doctor.inside import begin

begin()
