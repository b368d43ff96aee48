// The module is not called FaceTalk, as its macro would be that of facetalk.h then, FACETALK_API.
// Headers and library lie where Source/ThirdParty/README.md copies them to, the model in Resources of the plugin.
using System.IO;
using UnrealBuildTool;

public class FaceTalkUnreal : ModuleRules
{
    public FaceTalkUnreal(ReadOnlyTargetRules Target) : base(Target)
    {
        PCHUsage = PCHUsageMode.UseExplicitOrSharedPCHs;
        PublicDependencyModuleNames.AddRange(new string[] { "Core", "CoreUObject", "Engine", "AudioMixer" });
        PrivateDependencyModuleNames.Add("Projects"); // where the plugin lies

        string Home = Path.Combine(PluginDirectory, "Source", "ThirdParty", "facetalk");
        bool Windows = Target.Platform == UnrealTargetPlatform.Win64;
        string Loaded = Windows ? "facetalk.dll" : "libfacetalk.so";
        string Linked = Windows ? "facetalk.lib" : "libfacetalk.so"; // a DLL is linked by what imports it
        string Library = Path.Combine(Home, "lib", Loaded);
        string Import = Path.Combine(Home, "lib", Linked);
        foreach (string Needed in new string[] { Library, Import })
            if (!File.Exists(Needed))
                throw new BuildException("FaceTalk: no " + Needed + "; Source/ThirdParty/README.md says how it gets there");
        PrivateDefinitions.Add("FACETALK_EXCEPTIONS=0"); // statuses, in builds that have exceptions as well
        PrivateIncludePaths.Add(Path.Combine(Home, "include"));
        PublicAdditionalLibraries.Add(Import);
        // Beside what is linked with it, in the editor and in packages.
        RuntimeDependencies.Add("$(BinaryOutputDir)/" + Loaded, Library);
        // The library reads the model by its own means, so it has to lie outside of the .pak.
        RuntimeDependencies.Add(Path.Combine(PluginDirectory, "Resources", "facetalk", "..."), StagedFileType.NonUFS);
    }
}
